# What can be changed
img amend -f luks -o help
img amend -f qcow2 -o help

# Images without key slots
img create -q -f qcow2 p 1M
img amend -o encrypt.state=inactive,encrypt.keyslot=1 p
img amend -o encrypt.format=luks p
img amend -o encrypt.key-secret=s p
