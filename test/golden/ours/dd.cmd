# the input is not emptied by making the output of it
size r 65536
noise r 0 65536
img dd if=r of=r
size-is r 65536
img dd if=r of=nbd://localhost/x
