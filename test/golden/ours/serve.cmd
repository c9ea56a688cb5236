img create -q -f qcow2 a 1M
size r 1048576
# lines that are wrong
img serve
img serve --unknown a
img serve -k s -p 1 a
img serve -t --once a
img serve -x name a r
img serve -p 65536 a
img serve -P 0 a
img serve -P 1 -o 512 -f raw r
img serve --log-format=xml a
img serve --fork a -- true
img serve -B bitmap a
img serve -c /dev/nbd0 a
# what is not done
img serve -b 0.0.0.0 -p 0 -r a
img serve --metrics=0.0.0.0:0 -r a -- true
img serve --metrics=x -r a -- true
img serve r -- true
img serve -r a a -- true
img serve -f raw -P 1 r -- true
img serve none -- true
# a command
img serve -r a -- true
img serve -r a -- false
img serve -r x=a x=r -- true
img serve -r x=a y=a -- true
img serve -r a -- /nonexistent/command
# what servers are asked
img info --list a
img info --list nbd+unix:///?socket=/nonexistent/socket
img map --context=base:allocation a
img map --context=qemu:allocation-depth --output=json a
img map --context=other a
img map --reconnect-delay=x a
