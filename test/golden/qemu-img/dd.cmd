size r 100000
noise r 0 60000
img dd
img dd if=r
img dd of=o
img dd if=r of=o
size-is o 100352
img compare r o
img dd if=r of=o bs=1000 count=3
size-is o 3072
img dd if=r of=o bs=1000 skip=2
size-is o 98816
img dd if=r of=o bs=1000 skip=200
size-is o 0
img dd if=r of=o bs=4096 skip=1 count=3
size-is o 8192
img dd if=r of=o count=0
size-is o 0
img dd if=r of=o bs=1k count=1k
size-is o 100352
img dd if=r of=o bs=2147483647
img dd if=r if=o of=p
same o p
# formats
img dd -f raw -O qcow2 if=r of=q bs=64k
img map --output=json q
img compare r q
img check q
img dd -f qcow2 -O raw if=q of=o
same o p
img dd -O qcow2 if=q of=q2 bs=64k skip=1 count=1
img info q2
img create -q -f qcow2 -b q -F qcow2 over
img dd -U if=over of=o
same o p
img dd --image-opts if=driver=raw,offset=512,file.filename=r of=o
size-is o 99840
# mistakes
img dd if=r of=o bs=0
img dd if=r of=o bs=x
img dd if=r of=o bs=-1
img dd if=r of=o bs=
img dd if=r of=o bs=4G
img dd if=r of=o count=x
img dd if=r of=o skip=x
img dd if=r of=o seek=1
img dd if=r of=o bogus
img dd if=r of=o bs
img dd -n if=r of=o
img dd -O bogus if=r of=o
img dd -f bogus if=r of=o
img dd if=nowhere of=o
img dd if=r of=nowhere/o
img dd --image-opts -f raw if=driver=raw,file.filename=r of=o
