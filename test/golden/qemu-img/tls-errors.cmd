size r 65536
mkdir pki
img info --object tls-creds-x509,id=t r
img info --object tls-creds-x509,id=t,dir=/nowhere r
img info --object tls-creds-x509,id=t,endpoint=server,dir=/nowhere r
img info --object tls-creds-x509,id=t,endpoint=both,dir=/nowhere r
img info --object tls-creds-x509,id=t,dir=/nowhere,verify-peer=maybe r
img info --object tls-creds-psk,id=t r
img info --object tls-creds-psk,id=t,dir=/nowhere r
text pki/keys.psk 'alice:00010203040506070809'
chmod 600 pki/keys.psk
img info --object tls-creds-psk,id=t,dir=pki r
img info --object tls-creds-psk,id=t,dir=pki,username=bob r
img info --object authz-simple,id=a r
img info --object authz-simple,id=a,identity=x --image-opts driver=nbd,path=/nowhere,tls-creds=a
img info --image-opts driver=nbd,path=/nowhere,tls-creds=t
# access lists
img info --object authz-list,id=a,rules.0.match=x /nowhere
img info --object authz-list,id=a,rules.0.policy=allow /nowhere
img info --object authz-list,id=a,rules.0.match=x,rules.0.policy=maybe /nowhere
img info --object authz-list,id=a,policy=maybe /nowhere
img info --object authz-list,id=a,rules=x /nowhere
img info --object authz-list,id=a,rules.0=x /nowhere
img info --object authz-list,id=a,rules.1.match=x /nowhere
img info --object authz-list,id=a,rules.0.match=x,rules.0.policy=allow,rules.0.foo=1 /nowhere
img info --object authz-list,id=a,policy=allow,rules.0.match=CN=x,rules.0.policy=deny,rules.0.format=glob /nowhere
