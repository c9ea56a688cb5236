size r 1048576
noise r 65536 131072
fill r 327680 131072 7
# a rate, any order, copying as it is, salvaging
img convert -r 1G r a
same r a
img convert -r 0 r a
img convert -W -m 3 r a
same r a
img convert -C r a
same r a
img map --output=json a
img convert -C -O qcow2 r q
img map --output=json q
img compare r q
img convert --salvage r a
same r a
img convert --salvage -q -O qcow2 r q
img compare r q
img convert -t none -T none r a
img convert -t directsync -T unsafe r a
img convert -t writethrough -O qcow2 r q
same r a
# over a backing file
img create -q -f qcow2 base 1M
qemu-io -f qcow2 -c "write -P 9 0 1M" base
img create -q -f qcow2 -b base -F qcow2 top
qemu-io -f qcow2 -c "write -P 3 64k 64k" top
img convert -O qcow2 -B base -F qcow2 top over
img map --output=json over
img compare top over
img convert -O qcow2 -B base -F qcow2 r over
img compare r over
img create -q -f qcow2 -b base -F qcow2 over2
img convert -n -O qcow2 -B base -F qcow2 top over2
img map --output=json over2
img convert -n -O qcow2 r over2
img compare r over2
# zeros that are there already
img create -q -f qcow2 z 1M
img convert -n --target-is-zero -O qcow2 r z
img map --output=json z
img compare r z
# mistakes
img convert -r x r a
img convert -r -1 r a
img convert -m 0 r a
img convert -m 17 r a
img convert -C -c -O qcow2 r a
img convert -C -S 4k r a
img convert -C --salvage r a
img convert --target-is-zero r a
img convert -n -o size=1M r a
img convert -F qcow2 -O qcow2 r a
img convert -B nowhere -F qcow2 -O qcow2 r a
img commit -r x top
img commit -r 1G top
img commit -r 0 over
