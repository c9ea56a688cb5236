# levels are those of the image's kind of compression
size r 65536
img convert --compression-level 3 -O qcow2 r a
img convert -c --compression-level 0 -O qcow2 r a
img convert -c --compression-level 20 -O qcow2 r a
img convert -c --compression-level x -O qcow2 r a
img convert -c --compression-level 10 -O qcow2 r a
img convert -c --compression-level 9 -O qcow2 r a
img convert -c --compression-level 19 -O qcow2 -o compression_type=zstd r a
