qemu-img create -q -f qcow2 base.qcow2 1M
qemu-io -c "write -P 3 0 200k" base.qcow2
# leak
cp base.qcow2 u.qcow2
hex u.qcow2 131082 0002
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 131082 0002
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 131082 0002
img check -r all u.qcow2
img check u.qcow2
# too low
cp base.qcow2 u.qcow2
hex u.qcow2 131082 0000
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 131082 0000
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 131082 0000
img check -r all u.qcow2
img check u.qcow2
# flags
cp base.qcow2 u.qcow2
hex u.qcow2 262144 00
hex u.qcow2 196608 00
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 00
hex u.qcow2 196608 00
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 00
hex u.qcow2 196608 00
img check -r all u.qcow2
img check u.qcow2
# a reserved place that is not aligned
cp base.qcow2 u.qcow2
hex u.qcow2 262144 0000000000050201
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 0000000000050201
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 0000000000050201
img check -r all u.qcow2
img check u.qcow2
# data that is not aligned
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000000050200
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000000050200
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000000050200
img check -r all u.qcow2
img check u.qcow2
# reserved bits
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000000050002
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000000050002
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000000050002
img check -r all u.qcow2
img check u.qcow2
# no refcount block
cp base.qcow2 u.qcow2
hex u.qcow2 65536 0000000000000000
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 65536 0000000000000000
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 65536 0000000000000000
img check -r all u.qcow2
img check u.qcow2
# a refcount block shared
cp base.qcow2 u.qcow2
hex u.qcow2 65544 0000000000020000
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 65544 0000000000020000
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 65544 0000000000020000
img check -r all u.qcow2
img check u.qcow2
# behind the end
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000010000000
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000010000000
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 262144 8000000010000000
img check -r all u.qcow2
img check u.qcow2
# marked corrupt
cp base.qcow2 u.qcow2
hex u.qcow2 79 02
img check -r leaks u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 79 02
img check -r all --output=json u.qcow2
cp base.qcow2 u.qcow2
hex u.qcow2 79 02
img check -r all u.qcow2
img check u.qcow2
# lines
img check -q -r all base.qcow2
hex base.qcow2 131082 0002
img check -q -r leaks base.qcow2
img check --repair=all base.qcow2
img check -r
img check -r some base.qcow2
img check -U -r all base.qcow2
img check -r all nofile
# another format
qemu-img create -q -f raw r.raw 1M
img check -f raw -r all r.raw
