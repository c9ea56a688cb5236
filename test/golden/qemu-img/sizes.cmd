# sizes as strtosz reads them
img create s 1.5M
img create s 1b
img create s 1B
img create s 0x10
img create s 1K
img create s 1k
img create s ' 1M'
img create s '1M '
img create s 1MB
img create s .5M
img create s 1.1
img create s 0.5
img create s 1,5M
img create s 1e3
img create s 1.00001k
img create s 5.5
img create s ''
img create s +
img create s +1M
img create s 1.k
img create s 1..5k
img create s 0.1b
img create s 010
img create s inf
img create s nan
img create s 1e2M
img create s 0x1.8k
# sizes as info shows them
size s 0
img info -f raw s
size s 1
img info -f raw s
size s 999
img info -f raw s
size s 1000
img info -f raw s
size s 1024
img info -f raw s
size s 1025
img info -f raw s
size s 10235
img info -f raw s
size s 102400
img info -f raw s
size s 1023999
img info -f raw s
size s 1047552
img info -f raw s
size s 1048576
img info -f raw s
size s 1572864
img info -f raw s
size s 123456789012
img info -f raw s
size s 1099511627776
img info -f raw s
