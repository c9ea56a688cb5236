# an entry that points outside of every cluster, at 128k of the disk
size r 1048576
noise r 0 262144
img convert -O qcow2 r q
hex q 262160 8000000000050200
img map --output=json q
img convert q a
img compare r q
img compare q r
img check q
# the same in a backing file
img create -q -f qcow2 -b q -F qcow2 top
img map top
img convert -O qcow2 top a
img commit top
# a header that says more than there is
img create -q -f qcow2 h 1M
hex h 36 7fffffff
img info h
img map h
img check h
hex h 36 00000001
hex h 20 00000040
img info h
hex h 20 00000010
hex h 48 0000000000010001
img info h
img map h
