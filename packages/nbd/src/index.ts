/** The NBD protocol, both ends: server and client. */
export { formatNbdUri, isNbdUri, type NbdAddress, type NbdTarget, parseNbdUri } from './client/uri.ts';
