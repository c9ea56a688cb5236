# dirty bitmaps of a raw image are in a file beside it
size r.raw 10485760
img bitmap --list r.raw
img bitmap --add -f raw r.raw b0
img bitmap --add --disable -g 4k -f raw r.raw b1
img bitmap --add -f raw r.raw b0
img bitmap --list r.raw
img info r.raw
# what we write is recorded
noise s.raw 0 100000
img convert -n -f raw -O raw s.raw r.raw
img bitmap --merge b0 -f raw r.raw b1
img bitmap --list r.raw
img bitmap --list --output=json r.raw
img resize -f raw r.raw 20M
img bitmap --list r.raw
# they go along to other formats and back
img convert --bitmaps -f raw -O qcow2 r.raw q.qcow2
img bitmap --list q.qcow2
img convert --bitmaps -O raw q.qcow2 again.raw
img bitmap --list again.raw
img measure -f raw -O qcow2 r.raw
# and are not there where none were
img convert --bitmaps -f raw -O qcow2 s.raw no.qcow2
# what others write makes them inconsistent
qemu-io -f raw -c "write 0 512" again.raw
img bitmap --list again.raw
img info again.raw
img bitmap --clear -f raw again.raw b0
img serve -f raw -r -k sock -B b0 again.raw
img convert --bitmaps -f raw -O qcow2 again.raw no.qcow2
img convert --bitmaps --skip-broken-bitmaps -f raw -O qcow2 again.raw some.qcow2
img resize -f raw again.raw 21M
img bitmap --remove -f raw again.raw b0
img bitmap --remove -f raw again.raw b1
img bitmap --list again.raw
# another name
img bitmap --rename nightly --disable -f raw r.raw b0
img bitmap --list r.raw
# a copy of the image is another image, and a file that is none is told
cp r.raw copy.raw
cp r.raw.bitmaps copy.raw.bitmaps
img bitmap --list copy.raw
text copy.raw.bitmaps something
img bitmap --list copy.raw
img bitmap --add -f raw copy.raw b
img map -f raw copy.raw
rm copy.raw.bitmaps
# an encrypted disk too, and its keys are not the disk
img create -q -f luks --object secret,id=s,data=x -o key-secret=s,iter-time=10 l.luks 1M
img bitmap --add --object secret,id=s,data=x --image-opts driver=luks,key-secret=s,file.filename=l.luks b
img bitmap --list --object secret,id=s,data=x --image-opts driver=luks,key-secret=s,file.filename=l.luks
img amend -q --object secret,id=s,data=x --object secret,id=t,data=y -o state=active,new-secret=t,iter-time=10 --image-opts driver=luks,key-secret=s,file.filename=l.luks
img bitmap --list --object secret,id=s,data=x --image-opts driver=luks,key-secret=s,file.filename=l.luks
