# sizes beyond what a number of JavaScript counts exactly
img create a 8P
img create a 18446744073709551616
img map --start-offset 8E a
# a letter inside a group is named with its group
img info -qx y
# what comes in a later issue
img create -f qcow2 -o encryption=on a 1M
img create -o nocow=on a 1M
size r 65536
img convert --bitmaps r a
img info --object throttle-group,id=s r
img create nbd://localhost/x 1M
img create -b base.vmdk -F vmdk -u -f qcow2 a 1M
