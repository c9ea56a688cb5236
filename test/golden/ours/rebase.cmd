# names that images record lead into the folders of the files that were named, and those allowed
mkdir in
img create -q -f qcow2 base 1M
img create -q -f qcow2 long 2M
img create -q -f qcow2 -b ../base -F qcow2 in/over
img rebase -b ../long -F qcow2 in/over
img rebase --allow . -b ../long -F qcow2 in/over
img info in/over
img rebase --allow . -b ../long -F qcow2 in/over
img rebase -b '' --allow . in/over
# the new backing file is named by the user, and may lie anywhere
img rebase -b ../base -F qcow2 in/over
# an image must not record what may not be followed
img rebase -b nbd://localhost/x -F raw long
img rebase -b 'json:{"driver":"raw","file":{"filename":"base"}}' -F raw long
# a name that does not fit is refused before anything changes
img create -q -f qcow2 -o cluster_size=512 small 1M
img rebase -u -b aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -F raw small
img info small
# zeros of version 2 that nothing was below hide what is put there; with qemu-img 7.2 they do not
qemu-io -f qcow2 -c "write -P 4 0 1M" base
img create -q -f qcow2 -o compat=0.10 two 1M
qemu-io -f qcow2 -c "write -P 6 100k 10k" two
img convert -O raw two before
img rebase -b base -F qcow2 two
img compare two before
img check two
