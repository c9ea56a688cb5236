qemu-img create -q -f qcow2 b.qcow2 1M
qemu-img bitmap --add b.qcow2 bb
qemu-io -c "write 128k 64k" b.qcow2
qemu-img bitmap --add --disable -g 4k b.qcow2 dd
img convert --bitmaps -O qcow2 b.qcow2 o.qcow2
img info o.qcow2
img check -q o.qcow2
img convert --skip-broken-bitmaps -O qcow2 b.qcow2 p.qcow2
img convert --bitmaps -O qcow2 b.qcow2 o.qcow2 p.qcow2
qemu-img create -q -f raw r.raw 1M
img convert --bitmaps -f raw -O qcow2 r.raw p.qcow2
# into what is there
qemu-img bitmap --remove b.qcow2 dd
qemu-img create -q -f qcow2 n.qcow2 1M
img convert --bitmaps -n -O qcow2 b.qcow2 n.qcow2
img convert --bitmaps -n -O qcow2 b.qcow2 n.qcow2
qemu-img create -q -f qcow2 big.qcow2 2M
img convert --bitmaps -n -O qcow2 b.qcow2 big.qcow2
# not saved properly
qemu-img create -q -f qcow2 i.qcow2 10M
qemu-img bitmap --add i.qcow2 b
hex i.qcow2 327692 00000003
img convert --bitmaps -O qcow2 i.qcow2 p.qcow2
img convert --bitmaps --skip-broken-bitmaps -O qcow2 i.qcow2 p.qcow2
img info p.qcow2
