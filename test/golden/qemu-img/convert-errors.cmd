size r 65536
img convert -o bogus=1 r a
img convert -O qcow2 -o cluster_size=x r a
img convert -O qcow2 -o cluster_size=1000 r a
img convert -O qcow2 -o compat=0.9 r a
img convert -t foo r a
img convert -T foo r a
img convert -c -O raw r a
img convert -B b r a
img convert -B b -O qcow2 r a
img convert -B b -F raw -O qcow2 r a
img convert -O qcow2 -o backing_file=b r a
img convert -O qcow2 -B r -F raw r r a
img convert -n -O qcow2 r nowhere
img create -q -f qcow2 q 32k
img convert -n -O qcow2 r q
img convert -n -O bogus r q
img convert -n -t foo r q
size r2 65536
img convert -n -c -O raw r r2
img convert -O qcow2 r nowhere/a
mkdir d
img convert r d
img convert -O qcow2 -o preallocation=x r a
