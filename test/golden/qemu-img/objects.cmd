size r 65536
img map --object bogus,id=a r
img info --object '' r
img check --object id=a r
img compare --object '{' r r
img convert --object '{"a":1 "b":2}' r a
img create --object '{"qom-type":1}' a 1M
img commit --object ,x r
img map --object secret,a r
img map --object secret,a.1=1 r
img map --object secret,a..b=1 r
