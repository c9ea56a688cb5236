size r 65536
noise r 0 65536
img convert -p -O raw r a
img convert -p -q r a
img convert -p -O qcow2 r q
size e 0
img convert -p e a
img compare -p r a
img compare -p e e
img compare -pq r a
img create -q -f qcow2 base 64k
img convert -O qcow2 -B base -F qcow2 r top
img commit -pq top
