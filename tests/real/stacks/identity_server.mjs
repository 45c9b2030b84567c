// The identity provider as a program, for the Python stacks. IDENTITY holds its options as JSON.

import { startIdentity } from "./identity.mjs";

await startIdentity({ port: process.env.AUTH_PORT, ...JSON.parse(process.env.IDENTITY) });
