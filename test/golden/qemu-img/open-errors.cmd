mkdir d
text short abc
size r 65536
img info nowhere
img info nowhere/x
img info r/x
img info d
img info ''
img info foo:bar
img info -f bogus r
img info -f qcow2 r
img info -f qcow2 short
img info short
img info file:short
img info ./short
img map nowhere
img map -f qcow2 r
img map -f bogus r
img check nowhere
img check -f qcow2 r
img check r
img check -f raw r
img check --output=json r
img compare nowhere r
img compare r nowhere
img compare -f qcow2 r r
img compare -F bogus r r
img convert nowhere a
img convert r nowhere/a
img convert -f qcow2 r a
img convert -O bogus r a
img convert -n r nowhere
img convert -O qcow2 r d
img commit nowhere
img commit -f qcow2 r
img commit -f raw r
# links
link short l
img info l
link nowhere dead
img info dead
# what a crafted header says
hex h 0 514649fb00000004
img info h
hex h 0 514649fb00000003
img info h
img map h
hex h 0 514649fb00000001
img info -f qcow2 h
