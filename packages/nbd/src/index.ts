/** The NBD protocol, both ends: server and client. */
export {};
