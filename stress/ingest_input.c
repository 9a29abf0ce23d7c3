/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ingest_input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)256 << 10)

static const char *map_file(struct input_file *file, int fd)
{
	struct stat st;
	void *data;

	if (fstat(fd, &st))
		return strerror(errno);
	if (S_ISDIR(st.st_mode))
		return "is a directory";
	if (!S_ISREG(st.st_mode))
		return "is not a regular file";
	if (st.st_size == 0)
		return "is empty";
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return strerror(errno);
	file->data = data;
	file->bytes = (uint64_t)st.st_size;
	return NULL;
}

static const char *open_file(struct input_file *file)
{
	int fd = open(file->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *why;

	if (fd < 0)
		return strerror(errno);
	why = map_file(file, fd);
	close(fd);
	return why;
}

bool input_open(struct input *input, char **names, unsigned count,
		const char **ret_name, const char **ret_why)
{
	pthread_mutex_init(&input->lock, NULL);
	*ret_name = names[0];
	*ret_why = "out of memory";
	input->files = calloc(count, sizeof(*input->files));
	if (!input->files)
		return false;
	for (; input->count < count; input->count++) {
		struct input_file *file = &input->files[input->count];

		file->name = *ret_name = names[input->count];
		file->base = input->bytes;
		*ret_why = open_file(file);
		if (*ret_why)
			return false;
		input->bytes += file->bytes;
	}
	return true;
}

void input_close(struct input *input)
{
	unsigned i;

	for (i = 0; i < input->count; i++)
		munmap((void *)input->files[i].data, input->files[i].bytes);
	free(input->files);
	pthread_mutex_destroy(&input->lock);
}

void input_rewind(struct input *input)
{
	pthread_mutex_lock(&input->lock);
	input->next = 0;
	input->file = 0;
	pthread_mutex_unlock(&input->lock);
}

void input_cut(struct input *input)
{
	pthread_mutex_lock(&input->lock);
	input->cut = true;
	pthread_mutex_unlock(&input->lock);
}

uint64_t input_taken(struct input *input)
{
	uint64_t taken;

	pthread_mutex_lock(&input->lock);
	taken = input->next;
	pthread_mutex_unlock(&input->lock);
	return taken;
}

/* A chunk ends behind a newline where one comes soon enough. */
static size_t chunk_bytes(const char *data, uint64_t left)
{
	const char *newline;
	uint64_t rest;

	if (left <= CHUNK)
		return left;
	rest = left - CHUNK < RECORD_MAX ? left - CHUNK : RECORD_MAX;
	newline = memchr(data + CHUNK - 1, '\n', rest);
	return newline ? (size_t)(newline + 1 - data) : CHUNK;
}

static void take_chunk(struct input *input, struct span *ret_chunk)
{
	struct input_file *file = &input->files[input->file];
	uint64_t at = input->next - file->base;

	ret_chunk->data = file->data + at;
	ret_chunk->start = input->next;
	ret_chunk->bytes = chunk_bytes(ret_chunk->data, file->bytes - at);
	input->next += ret_chunk->bytes;
	if (input->next == file->base + file->bytes)
		input->file++;
}

bool input_take(struct input *input, struct span *ret_chunk)
{
	bool some;

	pthread_mutex_lock(&input->lock);
	some = !input->cut && input->next < input->bytes;
	if (some)
		take_chunk(input, ret_chunk);
	pthread_mutex_unlock(&input->lock);
	return some;
}

bool input_record(struct span *chunk, struct span *ret_record)
{
	size_t most = chunk->bytes < RECORD_MAX ? chunk->bytes : RECORD_MAX;
	const char *newline;

	if (!chunk->bytes)
		return false;
	newline = memchr(chunk->data, '\n', most);
	*ret_record = *chunk;
	ret_record->bytes = newline ? (size_t)(newline + 1 - chunk->data)
				    : most;
	chunk->data += ret_record->bytes;
	chunk->start += ret_record->bytes;
	chunk->bytes -= ret_record->bytes;
	return true;
}

/* The last file that begins at or before the place. */
static const struct input_file *file_at(const struct input *input,
					uint64_t start)
{
	unsigned low = 0, high = input->count;

	while (high - low > 1) {
		unsigned mid = low + (high - low) / 2;

		if (input->files[mid].base <= start)
			low = mid;
		else
			high = mid;
	}
	return &input->files[low];
}

const char *input_at(const struct input *input, uint64_t start, size_t bytes)
{
	const struct input_file *file = file_at(input, start);
	uint64_t at = start - file->base;

	if (at >= file->bytes || bytes > file->bytes - at)
		return NULL;
	return file->data + at;
}

uint64_t input_cover(uint64_t start, uint64_t bytes)
{
	return input_mix(start + bytes) - input_mix(start);
}
