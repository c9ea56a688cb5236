/** Several image layers as one disk: resolve, open, commit. */
export {};
