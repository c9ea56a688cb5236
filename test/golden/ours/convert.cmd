size r 65536
img create -q -f qcow2 base 64k
img create -q -f qcow2 -b base -F qcow2 over
# qemu-img says it and ends with 0
img convert -n --target-is-zero -B base -F qcow2 -O qcow2 r over
# what is not there yet
img convert --bitmaps -O qcow2 over a
img bench r
