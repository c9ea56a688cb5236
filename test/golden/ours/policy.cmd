# names in images lead into the folders of the files that were named, and those allowed
mkdir in
mkdir out
img create -q -f qcow2 out/base 1M
img create -q -f qcow2 -b ../out/base -F qcow2 in/top
img info in/top
img info --backing-chain in/top
img map in/top
img compare in/top out/base
img map --allow out in/top
img info --backing-chain --allow=out in/top
img commit in/top
img commit --allow out in/top
img convert in/top a
img convert --allow out in/top a
# a link leads where it points to
link ../out/base in/link
img create -q -f qcow2 -u -b link -F qcow2 in/linked 1M
img map in/linked
img info --backing-chain in/linked
# protocols in images are refused
img create -q -f qcow2 -u -b nbd://localhost/x -F raw in/remote 1M
img info in/remote
img map in/remote
img create -q -f qcow2 -u -b 'json:{"driver":"raw"}' -F raw in/json 1M
img info in/json
img map in/json
img info --backing-chain in/json
# loops end at once
img create -q -f qcow2 -u -b b -F qcow2 in/a 1M
img create -q -f qcow2 -u -b a -F qcow2 in/b 1M
img map in/a
img compare in/a in/b
img info --backing-chain in/a
# what is no file is not opened
mkfifo fifo
img info fifo
img map fifo
img convert fifo a
img create fifo 1M
img info /dev/null
# raw is not guessed for writing
size r 1048576
img commit r
# check looks into one file
img create -q -f qcow2 base 1M
img create -q -f qcow2 -b base -F qcow2 over
rm base
img check over
img map over
