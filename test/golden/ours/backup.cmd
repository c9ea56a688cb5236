# A cycle with bitmaps and checkpoints that the user names.
qemu-img create -q -f qcow2 d.qcow2 1M
qemu-io -c "write -P 1 0 100k" d.qcow2
img bitmap --add d.qcow2 c1
img backup -q --checkpoint c1 d.qcow2 backups
qemu-io -c "write -P 2 200k 10k" d.qcow2
img bitmap --add --disable d.qcow2 c2
img bitmap --disable d.qcow2 c1
img backup -q --checkpoint c2 d.qcow2 backups
img backup -q --bitmap c1 --checkpoint c2 d.qcow2 backups
img backup --bitmap c1 --checkpoint c2 d.qcow2 backups
img restore backups now.raw
img compare -f raw -F qcow2 now.raw d.qcow2
img restore -q --point 1 -O qcow2 backups first.qcow2
img restore -q --point c2 -O qcow2 backups second.qcow2
img compare first.qcow2 now.raw
img compare second.qcow2 now.raw
img info backups/0002.qcow2
# What is refused.
img backup
img backup d.qcow2
img backup --full --incremental d.qcow2 backups
img backup --compression-level 3 d.qcow2 backups
img backup --series a.b d.qcow2 backups
img backup --incremental --checkpoint c1 d.qcow2 other
img backup --bitmap none --checkpoint c3 d.qcow2 backups
img backup --bitmap c1 --checkpoint c3 d.qcow2 backups
img backup -q --bitmap c2 --checkpoint c3 d.qcow2 backups
img backup --checkpoint c3 d.qcow2 backups
img backup --resume --full --checkpoint c3 d.qcow2 backups
img backup d.qcow2 backups
img backup none.qcow2 backups
img restore backups
img restore backups now.raw
img restore backups fresh.raw -O vhdx
img restore --point 7 backups fresh.raw
img restore nowhere fresh.raw
img restore -n -o cluster_size=4k -O qcow2 backups second.qcow2
size small.raw 1024
img restore -n backups small.raw
# Onto a disk that holds something.
size large.raw 2097152
fill large.raw 0 2097152 255
img restore -n backups large.raw
img compare -f raw -F raw large.raw now.raw
# A full backup begins a new chain; no checkpoint means that nothing can build upon it.
img backup -q --full d.qcow2 backups
img backup -q --bitmap c1 --checkpoint c4 d.qcow2 backups
# Another disk, another size.
qemu-img create -q -f qcow2 e.qcow2 2M
qemu-img create -q -f qcow2 f.qcow2 1M
img bitmap --add --disable f.qcow2 c1
img bitmap --add e.qcow2 c1
img backup -q --full --checkpoint c1 d.qcow2 sizes
img bitmap --disable e.qcow2 c1
img backup --moved --bitmap c1 --checkpoint c2 e.qcow2 sizes
img backup --bitmap c1 --checkpoint c2 f.qcow2 sizes
# A layer that was touched.
qemu-io -c "write -P 9 0 4k" sizes/0001.qcow2
img bitmap --enable d.qcow2 c2
img backup --bitmap c1 --checkpoint c5 d.qcow2 sizes
img restore sizes fresh.raw
rm sizes/0001.qcow2
img restore sizes fresh.raw
# A manifest that somebody else wrote.
mkdir evil
text evil/0001.json "{\"strata-backup\": 1, \"number\": 1, \"layer\": {\"name\": \"/etc/passwd\"}}"
img restore evil fresh.raw
img backup --list evil
text evil/0001.json "{\"strata-backup\": 9}"
img restore evil fresh.raw
# Checkpoints.
img checkpoint
img checkpoint make d.qcow2
img checkpoint create
img checkpoint create now.raw
img checkpoint create --series "" d.qcow2
img checkpoint list d.qcow2
img checkpoint done d.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 1M
img checkpoint create old.qcow2
