qemu-img create -q -f qcow2 s 1M
qemu-img snapshot -c one s
qemu-img snapshot -c 'two words, and a rather long name' s
img info s
img info --output=json s
qemu-img create -q -f qcow2 b 1M
qemu-img bitmap --add b b0
qemu-img bitmap --add --disable -g 4096 b b1
img info b
img info --output=json b
qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on d 1M
img info d
img info --output=json d
rm d.raw
img info d
qemu-img create -q -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s --object secret,id=s,data=abc e 1M
img info e
img info --output=json e
qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=32k x 1M
img info x
img info --output=json x
qemu-img create -q -f qcow2 -o compression_type=zstd z 1M
img info z
img info --output=json z
qemu-img create -q -f qcow2 -o lazy_refcounts=on l 1M
hex l 72 0000000000000001
img info l
img info --output=json l
hex l 72 0000000000000002
img info l
img info --output=json l
qemu-img create -q -f qcow2 u 1M
hex u 72 8000000000000000
img info u
hex u 72 0000000000000020
img info u
