/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of one folder, and of nothing else: no "..", no symbolic link that
 * leads out of it, no device, no FIFO.  The kernel holds that (openat2(2)).
 * MT-Safe.  Errors: 0 or a negative errno.
 */
#ifndef SERVER_FILE_H
#define SERVER_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* One state of a file.  Whatever changes the contents changes this. */
struct file_stamp {
	uint64_t bytes;
	uint64_t inode;
	int64_t modified_ns;	/* mtime */
	int64_t changed_ns;	/* ctime */
};

bool file_same(const struct file_stamp *a, const struct file_stamp *b);

/*
 * Whether so much time went by since the last change that the next one is
 * sure to get another time.
 */
bool file_is_settled(const struct file_stamp *stamp);

/* The folder, for the functions below; close() it. */
int file_open_folder(const char *path, int *ret_folder);

/*
 * Opens a regular file for reading.
 * -ENOENT: there is none that may be read under this path; -EMFILE and the
 * like as they are.
 */
int file_open(int folder, const char *path, int *ret_fd,
	      struct file_stamp *ret_stamp);

/* The state of an open file, now. */
int file_stat(int fd, struct file_stamp *ret_stamp);

/*
 * Fills the whole vector from the beginning of the file; changes it.
 * -ESTALE: the file ended before that.
 */
int file_read(int fd, struct iovec *parts, unsigned count);

#endif
