/** Which ranges of a disk changed: granular bitmaps and the device that keeps them. */
export {};
