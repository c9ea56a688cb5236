img create -q -f qcow2 a 2M
img check a
img check --output=json a
img check -q a
img check -f qcow2 -U a
size r 2097152
noise r 65536 65536
img convert -O qcow2 r a
img check a
img check --output=json a
img check --output=human a
img check -T none a
# a leak
size a 524288
hex a 131084 0001
img check a
img check --output=json a
img check -q a
# a cluster in use that is counted as free
img convert -O qcow2 r a
hex a 131080 00000000
img check a
img check --output=json a
