/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The input: all files, one behind the other, as one range of bytes.  It is
 * cut into chunks for the writers and these into records: a record is a line
 * with its newline, the rest of a file without one, or a piece of a line that
 * is longer than RECORD_MAX.  Every byte is in exactly one record.
 */
#ifndef INGEST_INPUT_H
#define INGEST_INPUT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_MAX ((size_t)128 << 10)

struct input_file {
	const char *name;
	const char *data;	/* mapped, read only */
	uint64_t bytes;
	uint64_t base;		/* its place in the range */
};

struct input {
	struct input_file *files;
	unsigned count;
	uint64_t bytes;
	pthread_mutex_t lock;	/* protects the next three; innermost */
	uint64_t next;
	unsigned file;		/* the one that next lies in */
	bool cut;
};

/* Bytes of one file, start being their place in the range. */
struct span {
	const char *data;
	size_t bytes;
	uint64_t start;
};

/*
 * Maps the files.  False: *ret_name could not be used for the reason given.
 * input_close() is due in either case.
 */
bool input_open(struct input *input, char **names, unsigned count,
		const char **ret_name, const char **ret_why);
void input_close(struct input *input);

/* Begins again at the first byte. */
void input_rewind(struct input *input);

/* The next chunk; false: no more.  MT-Safe. */
bool input_take(struct input *input, struct span *ret_chunk);

/* From now on there are no more chunks; what was taken stays taken. */
void input_cut(struct input *input);

/* How many bytes were taken since the last rewind. */
uint64_t input_taken(struct input *input);

/* Moves the next record out of the chunk; false: it is empty. */
bool input_record(struct span *chunk, struct span *ret_record);

/*
 * The input's bytes at a place, or NULL where the range does not lie in one
 * file.
 */
const char *input_at(const struct input *input, uint64_t start, size_t bytes);

/*
 * Records cover [0, n) exactly once if and only if the sum of
 * input_cover(start, bytes) over them is input_cover(0, n): each end must
 * then be another one's start, and as no record is empty, that is one chain.
 * (But for sums of 64-bit hashes that are equal by chance.)
 */
uint64_t input_cover(uint64_t start, uint64_t bytes);

/* A 64-bit hash of a number (the finish of splitmix64). */
static inline uint64_t input_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

#endif
