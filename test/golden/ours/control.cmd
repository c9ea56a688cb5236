img create -q -f qcow2 a 1M
img create -q -f qcow2 b 1M
# lines that are wrong
img ctl
img ctl none
img ctl none query-version
img ctl --output=xml none query-version
img ctl none x y
img ctl none x '{"a":' 
img ctl none x '{"a": 1}' b=2
img ctl none x a.0=1 a.2=1
img ctl tcp:localhost:99999 x
img serve -s --control c a
img serve --control none/c -k s a
img serve --control c -k s x=a x=b
