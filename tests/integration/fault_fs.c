// A read-only FUSE mount of one directory whose direct reads fail as a control file says, for
// disk_faults.py:
//
//   fault_fs SOURCE CONTROL MOUNTPOINT
//
// CONTROL has one rule a line, read anew for every read; without any the files read as they are:
//   eio OFFSET LENGTH   reads that touch these bytes fail with EIO, always
//   eio_every N         every N-th read of more than 4 KiB fails with EIO, once (opening a file
//                       tries one block, and a drive that fails there is refused)
//   short N             reads answer with at most N bytes
//   delay_ms N          reads take so much longer
//   end OFFSET          the file ends there
// Reads without O_DIRECT (headers, through the page cache) are never touched.

#define _GNU_SOURCE
#define FUSE_USE_VERSION 35

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char* source;
static char* control;
static atomic_ulong n_reads;

struct rules {
  unsigned long long eio_offset, eio_length, eio_every, short_bytes, delay_ms, end;
};

static struct rules read_rules(void) {
  struct rules rules = {.end = ~0ULL};
  FILE* file = fopen(control, "r");
  if (file == NULL) return rules;
  char line[256];
  while (fgets(line, sizeof(line), file) != NULL) {
    if (sscanf(line, "eio %llu %llu", &rules.eio_offset, &rules.eio_length) > 0) continue;
    if (sscanf(line, "eio_every %llu", &rules.eio_every) > 0) continue;
    if (sscanf(line, "short %llu", &rules.short_bytes) > 0) continue;
    if (sscanf(line, "delay_ms %llu", &rules.delay_ms) > 0) continue;
    sscanf(line, "end %llu", &rules.end);
  }
  fclose(file);
  return rules;
}

static void path_of(const char* path, char* out, size_t size) {
  snprintf(out, size, "%s%s", source, path);
}

static void* fs_init(struct fuse_conn_info* connection, struct fuse_config* config) {
  (void)connection;
  // Else the kernel would take a short read for the end of the file.
  config->attr_timeout = 0;
  return NULL;
}

static int fs_getattr(const char* path, struct stat* status, struct fuse_file_info* info) {
  (void)info;
  char name[4096];
  path_of(path, name, sizeof(name));
  return lstat(name, status) == 0 ? 0 : -errno;
}

static int fs_readdir(const char* path, void* buffer, fuse_fill_dir_t fill, off_t offset,
                      struct fuse_file_info* info, enum fuse_readdir_flags flags) {
  (void)offset, (void)info, (void)flags;
  char name[4096];
  path_of(path, name, sizeof(name));
  DIR* directory = opendir(name);
  if (directory == NULL) return -errno;
  for (struct dirent* entry; (entry = readdir(directory)) != NULL;) {
    fill(buffer, entry->d_name, NULL, 0, 0);
  }
  closedir(directory);
  return 0;
}

static int fs_open(const char* path, struct fuse_file_info* info) {
  char name[4096];
  path_of(path, name, sizeof(name));
  const int fd = open(name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  info->direct_io = (info->flags & O_DIRECT) != 0;
  info->fh = (uint64_t)fd << 1 | info->direct_io;
  return 0;
}

static int fs_read(const char* path, char* buffer, size_t size, off_t offset,
                   struct fuse_file_info* info) {
  (void)path;
  if (info->fh & 1) {
    const struct rules rules = read_rules();
    const unsigned long long begin = (unsigned long long)offset;
    const bool counts = size > 4096;
    const unsigned long n = counts ? atomic_fetch_add(&n_reads, 1) + 1 : 0;
    if (rules.delay_ms > 0) {
      const struct timespec time = {(time_t)(rules.delay_ms / 1000),
                                    (long)(rules.delay_ms % 1000) * 1000000};
      nanosleep(&time, NULL);
    }
    if (counts && rules.eio_every > 0 && n % rules.eio_every == 0) return -EIO;
    if (begin < rules.eio_offset + rules.eio_length && begin + size > rules.eio_offset) return -EIO;
    if (begin >= rules.end) return 0;
    if (begin + size > rules.end) size = (size_t)(rules.end - begin);
    if (rules.short_bytes > 0 && size > rules.short_bytes) size = rules.short_bytes;
  }
  const ssize_t n = pread((int)(info->fh >> 1), buffer, size, offset);
  return n >= 0 ? (int)n : -errno;
}

static int fs_release(const char* path, struct fuse_file_info* info) {
  (void)path;
  close((int)(info->fh >> 1));
  return 0;
}

static const struct fuse_operations operations = {.init = fs_init,
                                                  .getattr = fs_getattr,
                                                  .readdir = fs_readdir,
                                                  .open = fs_open,
                                                  .read = fs_read,
                                                  .release = fs_release};

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: fault_fs SOURCE CONTROL MOUNTPOINT\n");
    return 2;
  }
  source = realpath(argv[1], NULL);
  control = argv[2];
  if (source == NULL) {
    perror(argv[1]);
    return 1;
  }
  char* arguments[] = {argv[0], "-f", "-o", "ro", argv[3], NULL};
  return fuse_main(5, arguments, &operations, NULL);
}
