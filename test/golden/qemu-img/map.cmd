# raw
size r 1048576
noise r 65536 131072
img map r
img map --output=json r
img map -f raw --output=json r
img map -U r
size odd 1000
noise odd 0 1000
img map odd
img map --output=json odd
size e 0
img map e
img map --output=json e
# qcow2
img convert -O qcow2 r q
img map q
img map --output=json q
img create -q -f qcow2 n 1M
img map n
img map --output=json n
img create -q -f qcow2 z 0
img map z
img map --output=json z
# ranges
img map --output=json --start-offset=96k q
img map --output=json --start-offset 96k --max-length 64k q
img map --output=json -s 100 -l 70000 q
img map --start-offset=100 --max-length=100000 q
img map --max-length=0 q
img map --max-length=0 --output=json q
img map --start-offset=1M q
img map --start-offset=1M --output=json q
img map --start-offset=2M --output=json q
# chains
img create -q -f qcow2 -b q -F qcow2 t1 2M
img map t1
img map --output=json t1
img create -q -f qcow2 -b t1 -F qcow2 t2
img map --output=json t2
img create -q -f qcow2 -b odd -F raw t3 256k
img map t3
img map --output=json t3
size small 196608
noise small 0 65536
img convert -O qcow2 -B t2 -F qcow2 small t4
img map --output=json t4
img map t4
mkdir sub
img create -q -f qcow2 -b sub/../q -F qcow2 dots
img map dots
