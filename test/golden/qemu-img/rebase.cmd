img create -q -f qcow2 base 1M
qemu-io -f qcow2 -c "write -P 1 0 256k" base
img create -q -f qcow2 -b base -F qcow2 mid
qemu-io -f qcow2 -c "write -P 2 128k 256k" mid
img create -q -f qcow2 -b mid -F qcow2 top
qemu-io -f qcow2 -c "write -P 3 64k 64k" -c "write -z 256k 64k" top
img convert -O raw top before
# onto another image of the chain
img rebase -b base -F qcow2 top
img info top
img check top
img compare top before
img map --output=json top
# onto none
img rebase -b '' top
img info top
img compare top before
img map --output=json top
# onto one that is longer, shorter, or no relation
img create -q -f qcow2 long 2M
qemu-io -f qcow2 -c "write -P 4 0 2M" long
img rebase -b long -F qcow2 top
img info top
img compare top before
img create -q -f qcow2 short 256k
qemu-io -f qcow2 -c "write -P 1 0 128k" -c "write -P 5 128k 128k" short
img rebase -b short -F qcow2 top
img compare top before
size raw 100000
noise raw 0 100000
img rebase -b raw -F raw top
img compare top before
img check top
# without looking
img create -q -f qcow2 -b base -F qcow2 over
img rebase -u -b long -F qcow2 over
img info over
img rebase -u -b gone -F raw over
img info over
img rebase -u over
img info over
img rebase -u -b '' over
img info over
# other cluster sizes and version 2
img create -q -f qcow2 -o cluster_size=512 -b base -F qcow2 small
img rebase -b short -F qcow2 small
img compare small base
img create -q -f qcow2 -o compat=0.10 -b mid -F qcow2 two
img rebase -b short -F qcow2 two
img compare two mid
img rebase -b '' two
img compare two mid
# what is printed
img create -q -f qcow2 -b base -F qcow2 over2 64k
img rebase -p -b mid -F qcow2 over2
img rebase -p -b '' over2
img rebase -p -q -b base -F qcow2 over2
img rebase -p -u -b mid -F qcow2 over2
img rebase --image-opts -b base -F qcow2 driver=qcow2,file.filename=over2
img rebase -t unsafe -T none -U -b mid -F qcow2 over2
# what had no backing file reads zeros where the new one has bytes
img create -q -f qcow2 -o cluster_size=4k none3 1M
qemu-io -f qcow2 -c "write -P 6 100k 10k" none3
img convert -O raw none3 before2
img rebase -b long -F qcow2 none3
img compare none3 before2
img check none3
