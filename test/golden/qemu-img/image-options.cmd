img create -q -f qcow2 base 1M
qemu-io -f qcow2 -c "write -P 7 0 64k" base
img create -q -f qcow2 -b base -F qcow2 top
qemu-io -f qcow2 -c "write -P 8 128k 64k" top
# a list of options
img info --image-opts driver=qcow2,file.filename=top
img info --image-opts file.filename=top
img info --image-opts driver=file,filename=top
img info --backing-chain --image-opts driver=qcow2,file.driver=file,file.filename=top
img map --image-opts driver=qcow2,file.filename=top
img map --output=json --image-opts driver=qcow2,file.filename=top
img check --image-opts driver=qcow2,file.filename=top
img compare --image-opts driver=qcow2,file.filename=top driver=qcow2,file.filename=base
img convert --image-opts driver=qcow2,file.filename=top a
img convert -n -O raw --image-opts driver=qcow2,file.filename=top a
img create -q -f qcow2 t 1M
img convert -n --target-image-opts --image-opts driver=qcow2,file.filename=top driver=qcow2,file.filename=t
img compare t top
img commit --image-opts driver=qcow2,file.filename=top
# JSON
img info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"top"}}'
img info "json:{'driver':'qcow2','file.filename':'top'}"
img map --output=json 'json:{"file":{"filename":"top"}}'
img info 'json:{"driver":1,"file":{"filename":"top"}}'
img convert 'json:{"driver":"qcow2","file":{"filename":"top"}}' b
same a b
img convert -n -O qcow2 b 'json:{"driver":"qcow2","file":{"filename":"t"}}'
img compare 'json:{"driver":"qcow2","file":{"filename":"top"}}' t
img commit 'json:{"driver":"qcow2","file":{"filename":"top"}}'
img info -f raw 'json:{"driver":"qcow2","file":{"driver":"file","filename":"top"}}'
# a part of a raw file
noise r 0 1048576
img info --image-opts driver=raw,offset=65536,size=65536,file.filename=r
img info --output=json --image-opts driver=raw,offset=64k,size=64k,file.filename=r
img info 'json:{"driver":"raw","offset":512,"size":1024,"file":{"driver":"file","filename":"r"}}'
img map --image-opts driver=raw,offset=65536,size=65536,file.filename=r
img map --output=json --image-opts driver=raw,offset=1M,file.filename=r
img convert --image-opts driver=raw,offset=64k,size=64k,file.filename=r part
size-is part 65536
img convert -n --target-image-opts part driver=raw,offset=512k,size=64k,file.filename=r
img compare --image-opts driver=raw,offset=512k,size=64k,file.filename=r driver=raw,offset=64k,size=64k,file.filename=r
img convert -n --target-image-opts r driver=raw,offset=512k,size=64k,file.filename=part
# another image in place of the backing file, and none
img map --output=json --image-opts driver=qcow2,file.filename=top,backing.driver=raw,backing.file.filename=r
img map --output=json --image-opts driver=qcow2,file.filename=top,backing.file.filename=base
img map --output=json 'json:{"driver":"qcow2","file.filename":"top","backing":null}'
img info --backing-chain 'json:{"driver":"qcow2","file.filename":"top","backing":null}'
img info --image-opts driver=qcow2,file.filename=top,backing.driver=qcow2,backing.file.filename=base
# an image inside an image
qemu-io -f raw -c "write -P 9 0 64k" r
img create -q -f qcow2 outer 2M
img convert -n -O qcow2 top outer
img convert --image-opts driver=raw,offset=64k,file.driver=qcow2,file.file.filename=base c
# what is known to every node
img map --image-opts driver=qcow2,file.filename=base,read-only=on,cache.direct=off,cache.no-flush=off,discard=unmap,node-name=foo,auto-read-only=on,force-share=on,file.locking=off,file.aio=threads,l2-cache-size=1M
img map --image-opts driver=qcow2,file.filename=nowhere,file.filename=base,
img check -U --image-opts driver=qcow2,file.filename=base,force-share=on
