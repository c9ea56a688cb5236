img create -q -f qcow2 base 1M
img create -q -f qcow2 -b base -F qcow2 mid
img create -q -f qcow2 -b mid -F qcow2 top
img create -q r 1M
img rebase
img rebase top
img rebase -F raw top
img rebase -b base
img rebase -b base -F qcow2 top extra
img rebase -b base top
img rebase -u -b base top
img rebase -b base -F bogus top
img rebase -u -b base -F bogus top
img rebase -b nowhere -F qcow2 top
img rebase -b nowhere top
img rebase -b base -F qcow2 nowhere
img rebase -t foo -b base -F qcow2 top
img rebase -T foo -b base -F qcow2 top
img rebase -f raw -b base -F qcow2 r
img rebase -f raw -b '' r
img rebase -f raw -u -b base r
img rebase -f qcow2 -b base -F qcow2 r
img rebase -f bogus -b base -F qcow2 top
img rebase -b top -F qcow2 top
img rebase -b mid -F qcow2 base
img rebase -f qcow2 --image-opts -b mid -F qcow2 driver=qcow2,file.filename=top
img rebase -u -b nowhere -F qcow2 top
img rebase -b base -F qcow2 top
img info top
img rebase -p -b base -F qcow2 top
img create -q -f qcow2 -b base -F qcow2 over
chmod 444 over
