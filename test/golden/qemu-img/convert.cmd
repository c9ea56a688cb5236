size r 1048576
noise r 65536 131072
fill r 327680 131072 7
img convert r a
same r a
img convert -f raw -O raw r a
img convert -O qcow2 r q
img info q
img map --output=json q
img check q
img compare r q
img convert -f qcow2 -O raw q a
same r a
img convert -q -O qcow2 r q
img convert -O qcow2 -o cluster_size=4k,compat=0.10 r q
img info q
img map --output=json q
img convert -O qcow2 -o cluster_size=512 -o lazy_refcounts=on r q
img info q
img convert -O qcow2 -o size=5M r q
img info q
# odd sizes
size odd 1000
noise odd 0 1000
img convert odd a
size-is a 1024
img convert -O qcow2 odd q
img convert q a
size-is a 1024
# sparseness
fill s 0 262144 0
noise s 8192 4096
img convert s a
img map --output=json a
img convert -S 64k s a
img map --output=json a
img convert -S 0 s a
img map --output=json a
img convert -S 0 -O qcow2 s q
img map --output=json q
img convert -S 512 -O qcow2 -o cluster_size=512 s q
img map --output=json q
# several sources, one after another
img convert odd r odd a
size-is a 1050624
img convert -O qcow2 odd r odd q
img compare a q
# into what exists
img create -q -f qcow2 t 2M
img convert -n -O qcow2 r t
img info t
img map --output=json t
img compare r t
img create -q t 1M
img convert -n r t
same r t
img create -q t 512k
img convert -n r t
img convert -n -O qcow2 r t
# over a backing file
img convert -O qcow2 -B r -F raw r o
img info o
img map --output=json o
img create -q -f qcow2 -b r -F raw o 2M
img convert -O qcow2 o f
img map --output=json f
img convert -O qcow2 -B r -F raw o f
img info f
img map --output=json f
img compare o f
# help and harmless options
img convert -O qcow2 -m 4 -W -t none -T none -U r a
img compare r a
