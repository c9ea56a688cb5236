size a 1048576
noise a 65536 65536
cp a b
img compare a b
img compare -q a b
img compare -f raw -F raw a b
img compare -s a b
img convert -O qcow2 a q
img compare a q
img compare -f raw -F qcow2 a q
img compare q q
img compare -s q q
img compare -U a q
# contents
fill b 70000 1 0
img compare a b
img compare -q a b
img compare b a
img compare q b
img compare -s a b
# data in one, nothing in the other
fill b 65536 65536 0
noise b 524288 512
img compare a b
size b 1048576
cp a b
noise b 900000 10
img compare a b
img compare b a
# sizes
cp a b
size b 2097152
img compare a b
img compare b a
img compare -s a b
img compare -q a b
noise b 2000000 10
img compare a b
img compare b a
size odd 1000
noise odd 0 1000
cp odd odd2
size odd2 1024
img compare odd odd2
img convert -O qcow2 odd odd3
img compare odd odd3
img compare odd3 odd
size odd2 5000
img compare odd odd2
# nothing
size e 0
img compare e e
img compare e a
img compare a e
img compare -s e a
# the allocation in strict mode
img create -q -f qcow2 n 1M
img compare -s n n
size z 1048576
img compare n z
img compare -s n z
img compare -T none a b
