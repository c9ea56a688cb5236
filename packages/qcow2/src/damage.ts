/**
 * Errors that say "this image is damaged", and of which image: when a change meets one, the image is marked.
 *
 * An image that is written may pass on such an error of the image below it, of which it knows nothing. What
 * tells them apart is the geometry, of which each opened image has one of its own.
 */
import { DiskError } from '@strata/block';
import type { Geometry } from './geometry.ts';

const images = new WeakMap<DiskError, Geometry>();

/** The error for damage in the image of this geometry that QEMU marks an image for. */
export function damage(geometry: Geometry, message: string, offset: number, spec: string): DiskError {
  const error = new DiskError('corrupt', message, { offset, spec });
  images.set(error, geometry);
  return error;
}

/** True if the error tells of damage in the image of this very geometry. */
export function isDamageOf(error: unknown, geometry: Geometry): error is DiskError {
  return error instanceof DiskError && images.get(error) === geometry;
}
