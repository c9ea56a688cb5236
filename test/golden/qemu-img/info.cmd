# odd names
size 'a b' 1024
img info 'a b'
img info --output=json 'a b'
size "a\tb\"c\\d\u007f\u00e9\ud83d\ude00\u0001" 1024
img info "a\tb\"c\\d\u007f\u00e9\ud83d\ude00\u0001"
img info --output=json "a\tb\"c\\d\u007f\u00e9\ud83d\ude00\u0001"
size ./foo:bar 1024
img info ./foo:bar
img info --output=json file:foo:bar
# the forms
img create -q -f qcow2 q 1G
img info --output=human q
img info --output=json q
img info --output json q
img info -U q
img info -f qcow2 q
img info -f raw q
img info --force-share q
# a chain
mkdir sub
img create -q -f qcow2 sub/base 1M
img create -q -f qcow2 -b base -F qcow2 sub/mid 2M
img create -q -f qcow2 -b sub/mid -F qcow2 top
img info top
img info --backing-chain top
img info --backing-chain --output=json top
img info --backing-chain sub/mid
img info --backing-chain --output=json sub/base
rm sub/base
img info sub/mid
img info --backing-chain top
img info --backing-chain --output=json top
# backing files that cannot be opened are still named
img create -q -f qcow2 -u -b /nowhere/x -F raw n 1M
img info n
img info --backing-chain n
img create -q -f qcow2 -u -b n2 -F qcow2 n2.tmp 1M
mv n2.tmp n2
img info n2
img info --backing-chain n2
