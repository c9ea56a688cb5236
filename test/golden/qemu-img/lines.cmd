# the command itself
img
img bogus
img --bogus
img -x
# options of a command
img info
img info -Z x
img info --bogus x
img info --bogus=1 x
img info --backing-chain=x y
img info --o json x
img info --f raw x
img info -f
img info --output
img info x --output
img info a b
img info --output=xml x
img info --output xml x
img check
img check a b
img check -r foo x
img check --output=xml x
img check -T foo x
img commit
img commit a b
img commit -t foo x
img commit -r x y
img compare
img compare a
img compare a b c
img compare -T foo a b
img convert
img convert a
img convert -S x a b
img convert -S 1 a b
img convert -S 16777728 a b
img convert -m 0 a b
img convert -m 17 a b
img convert -m x a b
img convert -o , a b
img convert -n -o size=1 a b
img convert -T foo a b
img convert --skip-broken-bitmaps a b
img convert --target-is-zero a b
img convert -c -C a b
img convert -C -S 4k a b
img create
img create a 1 2
img create a 1Q
img create -o , a 1
img create -o size=1, a
img create -o ,size=1 a
img create a -1
img map
img map a b
img map -s x a
img map --max-length=1Q a
img map --output=xml a
