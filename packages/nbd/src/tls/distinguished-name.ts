/**
 * The name in a certificate as one line, the way GnuTLS and so QEMU's access lists write it: `CN=...,O=...`.
 *
 * Node gives a line for each part, in the order in which the certificate has them, special characters escaped as in
 * RFC 4514, line ends among them; so names that contain what looks like another part stay apart.
 */
import type { X509Certificate } from 'node:crypto';

/** The subject of a certificate; empty if it has none. */
export function distinguishedName(certificate: X509Certificate): string {
  return (certificate.subject ?? '').split('\n').join(',');
}
