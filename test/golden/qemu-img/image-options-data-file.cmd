img create -q -f qcow2 -o data_file=d i 1M
qemu-io -f qcow2 -c "write -P 1 0 128k" i
cp d e
fill e 0 65536 2
mv d away
img map --output=json --image-opts driver=qcow2,file.filename=i,data-file.filename=e
img convert --image-opts driver=qcow2,file.filename=i,data-file.driver=raw,data-file.file.filename=e o
img convert 'json:{"driver":"qcow2","file":{"filename":"i"},"data-file":{"driver":"file","filename":"e"}}' p
same o p
img info --image-opts driver=qcow2,file.filename=i,data-file.filename=e
img check --image-opts driver=qcow2,file.filename=i,data-file.filename=e
img map --image-opts driver=qcow2,file.filename=i,data-file.filename=nowhere
img map --image-opts driver=qcow2,file.filename=i,data-file=x
img create -q -f qcow2 q 1M
img map --image-opts driver=qcow2,file.filename=q,data-file.filename=e
size r 65536
fill r 0 65536 5
img convert -n --target-image-opts r driver=qcow2,file.filename=i,data-file.filename=e
mv away d
img compare -f raw -F raw d o
