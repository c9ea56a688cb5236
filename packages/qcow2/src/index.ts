/** One qcow2 image (versions 2 and 3) as a layer of a chain. */
export { isQcow2 } from './format.ts';
