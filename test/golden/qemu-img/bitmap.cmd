qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 10M
img bitmap --add a.qcow2 b0
img bitmap --add a.qcow2 b0
img bitmap --add -g 4k --disable a.qcow2 b1
img bitmap --add -g 2G a.qcow2 big
img info a.qcow2
img info --output=json a.qcow2
qemu-io -c "write 1M 100k" a.qcow2
img bitmap --merge b0 --merge big a.qcow2 b1
img check -q a.qcow2
# what cannot be
img bitmap --remove a.qcow2 nope
img bitmap --clear a.qcow2 nope
img bitmap --merge nope a.qcow2 b0
img bitmap --add -g 1000 a.qcow2 x
img bitmap --add -g 256 a.qcow2 x
img bitmap --add -g 4G a.qcow2 x
img bitmap --add -g x a.qcow2 x
img bitmap --add a.qcow2 ""
img bitmap a.qcow2 b0
img bitmap --add a.qcow2
img bitmap --add a.qcow2 b c
img bitmap --clear -g 4k a.qcow2 b0
img bitmap --clear -F qcow2 a.qcow2 b0
img bitmap --clear -b a.qcow2 a.qcow2 b0
img bitmap --add nofile b
img bitmap --merge x -b nofile a.qcow2 b0
img bitmap --merge
# actions in their order, and those before the one that fails stay done
img bitmap --add --remove --add --disable a.qcow2 q
img bitmap --enable --remove --clear a.qcow2 q
img info a.qcow2
# from another image
qemu-img create -q -f qcow2 s.qcow2 10M
qemu-img bitmap --add s.qcow2 x
qemu-img create -q -f qcow2 t.qcow2 11M
qemu-img bitmap --add t.qcow2 x
img bitmap --merge x -b s.qcow2 -F qcow2 a.qcow2 b0
img bitmap --merge x -b s.qcow2 -F raw a.qcow2 b0
img bitmap --merge y -b s.qcow2 a.qcow2 b0
img bitmap --merge x -b t.qcow2 a.qcow2 b0
# not saved properly
qemu-img create -q -f qcow2 i.qcow2 10M
qemu-img bitmap --add i.qcow2 b
hex i.qcow2 327692 00000003
img info i.qcow2
img bitmap --clear i.qcow2 b
img bitmap --enable i.qcow2 b
img bitmap --disable i.qcow2 b
img bitmap --merge b i.qcow2 b
img bitmap --merge b -b i.qcow2 a.qcow2 b0
img bitmap --add i.qcow2 b
img resize i.qcow2 20M
img check -q i.qcow2
img bitmap --remove i.qcow2 b
img info i.qcow2
# removed
img bitmap --remove a.qcow2 b0
img bitmap --remove a.qcow2 b1
img bitmap --remove a.qcow2 big
img info a.qcow2
img check -q a.qcow2
