size r 1048576
noise r 65536 131072
img convert -O qcow2 r base
size r2 1048576
fill r2 0 262144 9
img convert -O qcow2 -B base -F qcow2 r2 top
img commit top
img compare r2 base
img map --output=json top
img map --output=json base
img check top
img check base
# nothing to commit
img commit top
img commit -q top
# kept
img convert -O qcow2 -B base -F qcow2 r top
img commit -d top
img compare r base
img compare top base
# down to a base
img convert -O qcow2 r base
img create -q -f qcow2 -b base -F qcow2 mid
img convert -O qcow2 -B mid -F qcow2 r2 top
img commit -b base top
img compare r2 base
img map --output=json mid
img commit -b nowhere top
img commit -b top top
# a longer overlay grows its base
img create -q -f qcow2 base 512k
size r3 1048576
noise r3 900000 100000
img convert -O qcow2 -B base -F qcow2 r3 top
img commit top
img compare r3 base
# into a raw file
img create -q base.raw 1M
img convert -O qcow2 -B base.raw -F raw r3 top
img commit -f qcow2 top
img compare -f raw -F raw r3 base.raw
# what has nothing below it
img commit -f raw r
img commit -q base
img commit -t none base
