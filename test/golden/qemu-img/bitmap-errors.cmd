qemu-img create -q -f qcow2 a.qcow2 10M
img bitmap
img bitmap a.qcow2
img bitmap --add
img bitmap -x a.qcow2 b
img bitmap --list-all a.qcow2 b
img bitmap --add -g
img bitmap --add -g 0 a.qcow2 b
img bitmap --add -g -1 a.qcow2 b
img bitmap --add -g 511 a.qcow2 b
img bitmap --add -g 513 a.qcow2 b
img bitmap --add -g 3k a.qcow2 b
img bitmap --add -g 1.5k a.qcow2 b
img bitmap --add -g 4k -g 8k a.qcow2 b
img bitmap --add -f raw --image-opts driver=qcow2,file.filename=a.qcow2 c
img bitmap --add --image-opts driver=qcow2,file.filename=a.qcow2 c
img bitmap --add -f nosuch a.qcow2 c
img bitmap --add -f luks a.qcow2 c
img bitmap --add --image-opts driver=nosuch,file.filename=a.qcow2 c
img bitmap --merge b -F nosuch -b a.qcow2 a.qcow2 c
img bitmap --merge b -b nofile -F qcow2 a.qcow2 c
img bitmap --merge nope -b a.qcow2 -F qcow2 a.qcow2 c
img bitmap --object secret,id=s --add a.qcow2 d
img bitmap --object nosuch,id=s --add a.qcow2 d
img bitmap --add a.qcow2 b c
img bitmap --add a.qcow2 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
# merging into itself, and several at once
img bitmap --merge b --merge b --merge c a.qcow2 b
img bitmap --clear --merge c --disable --enable a.qcow2 b
img bitmap --merge c --merge nope --clear a.qcow2 b
# too large for the disk
qemu-img create -q -f qcow2 big.qcow2 4T
img bitmap --add -g 1k big.qcow2 b
img bitmap --add -g 2G big.qcow2 c
img check -q big.qcow2
# under an overlay, with its backing file and without
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2
img bitmap --add top.qcow2 b
mv a.qcow2 moved.qcow2
img bitmap --add top.qcow2 c
img bitmap --merge b -b top.qcow2 -F qcow2 moved.qcow2 b
mv moved.qcow2 a.qcow2
img info top.qcow2
# version 2
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 1M
img bitmap --remove old.qcow2 b
# a directory that cannot be
qemu-img create -q -f qcow2 bad.qcow2 10M
qemu-img bitmap --add bad.qcow2 b
hex bad.qcow2 327680 0000000000000001
img bitmap --remove bad.qcow2 b
img bitmap --add bad.qcow2 c
img info bad.qcow2
