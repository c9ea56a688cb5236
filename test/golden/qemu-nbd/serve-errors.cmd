qemu-img create -q -f qcow2 a 1M
size r 1048576
# values that are not taken
img serve --cache=foo a
img serve --cache=none --cache=none a
img serve -n --cache=none a
img serve --discard=foo a
img serve --detect-zeroes=foo a
img serve --detect-zeroes=unmap --discard=ignore a
img serve --aio=foo a
img serve -o x a
img serve -e x a
img serve -e -1 a
# what cannot be exported
img serve -f raw -o 2000000 r
img serve -l none a
img serve -l snapshot.id=1 a
# listing
img serve -L a
img serve -L -k /nonexistent/socket
img serve -L -b 127.0.0.1 -p 1
