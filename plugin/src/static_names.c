/*
 * For a program with the C library linked into it (build.rs). /etc/nsswitch.conf may name more services for hosts and
 * users, such as systemd's. The C library would load their modules, which belong to the machine's own C library:
 * beside another version of it, the program crashes. "files" and "dns" are part of the linked library, and all that
 * kubectl asks.
 */
#include <nss.h>

__attribute__((constructor)) static void ask_files_and_dns_only(void) {
  __nss_configure_lookup("hosts", "files dns");
  __nss_configure_lookup("passwd", "files");
}
