img create -q -f qcow2 q 1M
img create -q r 1M
# what is missing
img info --image-opts ''
img info --image-opts ,
img info --image-opts =x
img info --image-opts q
img info --image-opts filename=q
img info --image-opts driver=qcow2
img info --image-opts driver=qcow2,file=q
img info --image-opts driver=file
img info --image-opts driver=qcow2,file.driver=file
img map --image-opts driver=qcow2,backing=b,file.filename=q
# what is not known
img info --image-opts driver=nope,file.filename=q
img info --image-opts driver=qcow2,,file.filename=q
img info --image-opts driver=qcow2,bogus=1,file.filename=q
img info --image-opts driver=qcow2,file.bogus=1,file.filename=q
img info --image-opts driver=file,filename=q,offset=1
img map --image-opts driver=qcow2,file.filename=nowhere
img map --image-opts driver=qcow2,file.filename=file:q
img map --image-opts driver=qcow2,file.filename=a,,b
img map --image-opts driver=qcow2,file.driver=qcow2,file.file.filename=q
# values
img map --image-opts driver=qcow2,file.filename=q,discard=foo
img map --image-opts driver=qcow2,file.filename=q,cache.direct=foo
img map --image-opts driver=qcow2,file.filename=q,read-only=foo
img map --image-opts driver=qcow2,file.filename=q,detect-zeroes=foo
img map --image-opts driver=qcow2,file.filename=q,file.locking=foo
img map --image-opts driver=raw,offset=x,file.filename=r
img map --image-opts driver=raw,offset=2M,file.filename=r
img map --image-opts driver=raw,size=2M,file.filename=r
img map --image-opts driver=raw,size=1000,file.filename=r
# what does not go together
img info -f qcow2 --image-opts driver=qcow2,file.filename=q
img map --image-opts -f qcow2 driver=qcow2,file.filename=q
img check -f qcow2 --image-opts driver=qcow2,file.filename=q
img commit -f qcow2 --image-opts driver=qcow2,file.filename=q
img compare -f raw --image-opts driver=raw,file.filename=r driver=raw,file.filename=r
img compare -F raw --image-opts driver=raw,file.filename=r driver=raw,file.filename=r
img convert -f raw --image-opts driver=raw,file.filename=r a
img convert -n -O raw --target-image-opts r driver=raw,file.filename=r
img convert --target-image-opts r driver=raw,file.filename=a
img compare --image-opts driver=raw,file.filename=r r
img info -U --image-opts driver=qcow2,force-share=off,file.filename=q
# what is read-only is not written to
img commit --image-opts driver=qcow2,file.filename=q,read-only=on
img commit --image-opts driver=qcow2,file.filename=q,file.read-only=on
img convert -n --target-image-opts r driver=qcow2,read-only=on,file.filename=q
# JSON
img info json:{
img info 'json: '
img info json:[]
img info json:x
img info 'json:{"a":1}'
img info 'json:{"driver":"qcow2"}'
img info 'json:{"driver":"file"}'
img info 'json:{"file":"x"}'
img info 'json:{"driver":"raw","file":null}'
img info 'json:{"driver":"raw","file":{}}'
img info 'json:{"driver":"raw","file":["q"]}'
img info 'json:{"driver":"raw","file":{"driver":"file"}}'
img info 'json:{"driver":"raw","file":{"filename":1}}'
img info 'json:{"driver":"raw","offset":-1,"file":{"filename":"r"}}'
img info 'json:{"driver":"raw","offset":true,"file":{"filename":"r"}}'
img info 'json:{"driver":"raw","read-only":"maybe","file":{"filename":"r"}}'
img convert -O qcow2 r 'json:{"driver":"qcow2","file":{"driver":"file","filename":"a"}}'
img create -f qcow2 'json:{"driver":"qcow2","file":{"driver":"file","filename":"a"}}' 1M
img convert -n -O qcow2 r 'json:{"driver":"qcow2","file":{"driver":"file","filename":"nowhere"}}'
# servers
img map --image-opts driver=qcow2,file.driver=nbd
img map --image-opts driver=nbd,path=/nowhere,host=x
img map --image-opts driver=nbd,server.path=/nowhere
img map --image-opts driver=nbd,server.type=inet,server.host=localhost
img map --image-opts driver=nbd,path=/nowhere,tls-creds=x
img map --image-opts driver=qcow2,file.driver=nbd,file.path=/nowhere
img map --image-opts driver=qcow2,file.driver=nbd,file.server.type=unix,file.server.path=/nowhere
img map 'json:{"driver":"nbd","server":{"type":"unix","path":"/nowhere"},"export":"x"}'
img map --image-opts driver=nbd,host=localhost,port=1
