/* Starts the rustc that obtain.sh has unpacked, with the dynamic linker and the libraries that were unpacked beside it.
 * In C, because a shell drops environment variables whose names have a dash, and cargo sets such variables. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char **arguments = calloc(argc + 8, sizeof *arguments);
    int count = 0;
    if (!arguments) return 1;
    arguments[count++] = ROOT "/usr/lib64/ld-linux-x86-64.so.2";
    arguments[count++] = "--argv0";
    arguments[count++] = ROOT "/usr/bin/rustc";
    arguments[count++] = "--library-path";
    arguments[count++] = ROOT "/usr/lib/x86_64-linux-gnu:" ROOT "/usr/lib";
    arguments[count++] = ROOT "/usr/bin/rustc";
    arguments[count++] = "--sysroot=" ROOT "/usr";
    for (int at = 1; at < argc; at++) arguments[count++] = argv[at];
    execv(arguments[0], arguments);
    perror(arguments[0]);
    return 1;
}
