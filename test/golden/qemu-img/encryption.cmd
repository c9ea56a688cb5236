# A luks image: the header alone, whose key slots no passphrase opens
size l 2134016
hex l 0 4c554b53babe000161657300000000000000000000000000000000000000000000000000000000007874732d706c61696e3634000000000000000000000000000000000000000000736861323536000000000000000000000000000000000000000000000000000000000fc80000004000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000003e831323334353637382d396162632d646566302d313233342d3536373839616263646566300000000000ac71f3000003e800000000000000000000000000000000000000000000000000000000000000000000000800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000020000000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000003f800000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000005f000000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000007e800000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000009e000000fa000ac71f3000003ee000000000000000000000000000000000000000000000000000000000000000000000bd800000fa00000dead00000000000000000000000000000000000000000000000000000000000000000000000000000dd000000fa0
img info l
img info --output=json l
img info -f luks l
img map l
img map --object secret,id=s,data=abc --image-opts driver=luks,file.filename=l,key-secret=s
img map --object secret,id=s,data=abc --image-opts driver=luks,file.filename=l,key-secret=t

img map --image-opts driver=luks,file.filename=l,key-secret=s
img convert -f luks l o
img convert --object secret,id=s,data=abc --image-opts driver=luks,file.filename=l,key-secret=s o
img compare l l
img compare --object secret,id=s,data=abc --image-opts driver=luks,file.filename=l,key-secret=s driver=luks,file.filename=l,key-secret=s

# Other ciphers, and what is wrong with a header
size e 1048576
hex e 0 4c554b53babe000161657300000000000000000000000000000000000000000000000000000000006362632d65737369763a736861323536000000000000000000000000000000007368613100000000000000000000000000000000000000000000000000000000000004080000001000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000003e831323334353637382d396162632d646566302d313233342d3536373839616263646566300000000000ac71f3000003e800000000000000000000000000000000000000000000000000000000000000000000000800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000008800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000010800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000018800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000020800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000028800000fa000ac71f3000003ee00000000000000000000000000000000000000000000000000000000000000000000030800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000038800000fa0
img info e
img info --output=json e
hex e 8 6165730000
hex e 40 6362632d657373697600000000000000
img info -f luks e
hex e 40 6362630000000000000000000000
img info -f luks e
hex e 40 6362632d706c61696e0000000000
hex e 252 00000000
img info -f luks e
hex e 252 00000fa0
hex e 248 00000007
img info -f luks e
hex e 248 00000400
img info -f luks e
hex e 248 00000080
img info -f luks e
hex e 208 00000001
img info -f luks e
hex e 208 00ac71f300000000
img info -f luks e
hex e 164 00000000
img info -f luks e
hex e 6 0002
img info -f luks e
img info e
hex e 0 00
img info -f luks e
size t 2134016
hex t 0 4c554b53babe000173657270656e74000000000000000000000000000000000000000000000000007874732d706c61696e3634000000000000000000000000000000000000000000736861353132000000000000000000000000000000000000000000000000000000000fc80000004000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000003e831323334353637382d396162632d646566302d313233342d3536373839616263646566300000000000ac71f3000003e800000000000000000000000000000000000000000000000000000000000000000000000800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000020000000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000003f800000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000005f000000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000007e800000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000009e000000fa000ac71f3000003ee000000000000000000000000000000000000000000000000000000000000000000000bd800000fa00000dead00000000000000000000000000000000000000000000000000000000000000000000000000000dd000000fa0
img info t

# A qcow2 image with the same header in its clusters
img create -q -f qcow2 q 1M
size q 2523136
hex q 32 00000002
hex q 112 0537be7700000010000000000005000000000000001f900000000000
hex q 327680 4c554b53babe000161657300000000000000000000000000000000000000000000000000000000007874732d706c61696e3634000000000000000000000000000000000000000000736861323536000000000000000000000000000000000000000000000000000000000fc80000004000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000003e831323334353637382d396162632d646566302d313233342d3536373839616263646566300000000000ac71f3000003e800000000000000000000000000000000000000000000000000000000000000000000000800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000020000000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000003f800000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000005f000000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000007e800000fa00000dead000000000000000000000000000000000000000000000000000000000000000000000000000009e000000fa000ac71f3000003ee000000000000000000000000000000000000000000000000000000000000000000000bd800000fa00000dead00000000000000000000000000000000000000000000000000000000000000000000000000000dd000000fa0
img info q
img info --output=json q
img map q
img map --object secret,id=s,data=abc --image-opts driver=qcow2,file.filename=q,encrypt.key-secret=s
img map --object secret,id=s,data=abc --image-opts driver=qcow2,file.filename=q,encrypt.key-secret=t
img map --object secret,id=s,data=abc --image-opts driver=qcow2,file.filename=q,encrypt.key-secret=s,encrypt.format=luks
img map --object secret,id=s,data=abc --image-opts driver=qcow2,file.filename=q,encrypt.key-secret=s,encrypt.format=aes
img map --object secret,id=s,data=abc --image-opts driver=qcow2,file.filename=q,encrypt.key-secret=s,encrypt.format=foo
img convert q o
img convert -O qcow2 --object secret,id=s,data=abc --image-opts driver=qcow2,file.filename=q,encrypt.key-secret=s o
img compare q q
img create -q -f qcow2 p 1M
img map --output=json --object secret,id=s,data=abc --image-opts driver=qcow2,file.filename=p,encrypt.key-secret=s
img map --output=json --object secret,id=s,data=abc --image-opts driver=qcow2,file.filename=p,encrypt.format=luks
img info --image-opts driver=qcow2,file.filename=q,encrypt.key-secret=nobody
img info --image-opts driver=luks,file.filename=l,key-secret=nobody
img info --output=json --image-opts driver=luks,file.filename=l,key-secret=nobody

# New images: what is asked for is judged before anything is made
img create -f luks -o help
img create -f luks -o help a
img create -f luks a 1M
img create -f luks -o key-secret=t a 1M
img create -f luks --object secret,id=s,data=abc -o key-secret=s,cipher-alg=foo a 1M
img create -f luks --object secret,id=s,data=abc -o key-secret=s,cipher-alg=3des a 1M
img create -f luks --object secret,id=s,data=abc -o key-secret=s,cipher-mode=foo a 1M
img create -f luks --object secret,id=s,data=abc -o key-secret=s,ivgen-alg=foo a 1M
img create -f luks --object secret,id=s,data=abc -o key-secret=s,ivgen-alg=essiv,ivgen-hash-alg=sha1 a 1M
img create -f luks --object secret,id=s,data=abc -o key-secret=s,ivgen-alg=essiv,ivgen-hash-alg=foo a 1M
img create -f luks --object secret,id=s,data=abc -o key-secret=s,hash-alg=foo a 1M
img create -f luks --object secret,id=s,data=abc -o key-secret=s,iter-time=foo a 1M
img create -f luks -b p -F qcow2 -o key-secret=s a 1M
img create -f qcow2 -o encrypt.format=luks a 1M
img create -f qcow2 -o encrypt.format=foo a 1M
img create -f qcow2 -o encrypt.key-secret=s a 1M
img create -f qcow2 --object secret,id=s,data=abc -o encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=foo a 1M
img create -f qcow2 --object secret,id=s,data=abc -o encrypt.format=luks,encrypt.key-secret=s,encrypt.hash-alg=foo a 1M
img convert -O luks p a
img convert -O qcow2 -o encrypt.format=luks p a

# Measured
img measure -O luks --size 1M
img measure -O luks -o key-secret=t --size 1M
img measure --object secret,id=s,data=abc -O luks -o key-secret=s --size 1M
img measure --object secret,id=s,data=abc -O luks -o key-secret=s,cipher-alg=aes-128,cipher-mode=cbc p
img measure --object secret,id=s,data=abc -O luks -o key-secret=s,cipher-alg=foo p
img measure --object secret,id=s,data=abc -O luks --output=json -o key-secret=s,preallocation=full --size 1M
img measure -O qcow2 -o encrypt.format=luks,encrypt.key-secret=t --size 1M
img measure --object secret,id=s,data=abc -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s --size 1M
img measure --object secret,id=s,data=abc -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,cluster_size=4k --size 1M
img measure -O qcow2 -o encrypt.format=foo --size 1M

# Secrets
img map --object secret,id=s p
img map --object secret,id=s,data=a,file=p p
img map --object secret,id=s,file=/nonexistent p
img map --object secret,id=s,file=/ p
img map --object secret,id=s,data=a,format=foo p
img map --object secret,id=s,data=!,format=base64 p
img map --object secret,id=s,data=a,foo=1 p
img map --object secret,id=s,data=a,keyid=k p
img map --object secret,id=k,data=YWJj,format=base64 --object secret,id=s,data=a,keyid=k p
img map --object secret,id=k,data=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,format=base64 --object secret,id=s,data=a,keyid=k p
img map --object secret,id=k,data=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,format=base64 --object secret,id=s,data=a,keyid=k,iv=YWJj p
img map --object secret,id=k,data=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,format=base64 --object secret,id=s,data=a,keyid=k,iv=AAAAAAAAAAAAAAAAAAAAAA== p
img map --object secret,id=s,data=a,iv=AAAA --object secret,id=s,data=b p
hex bad 0 fffe
img map --object secret,id=s,file=bad --image-opts driver=luks,file.filename=l,key-secret=s
hex nul 0 610062
img map --object secret,id=s,file=nul --image-opts driver=luks,file.filename=l,key-secret=s
