/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See cgroup.h.  Both versions may be mounted at once; the memory controller is
 * in one of them, and the other has no such files.
 */
#include "cgroup.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"

enum {
	PATH_BYTES = 4096,
	TEXT_BYTES = 128 * 1024,	/* longer files are read so far */
	NUMBER_BYTES = 64,
	FIELDS_MOST = 32,		/* of a line of mountinfo */
};

/* One of the versions. */
struct hierarchy {
	bool mounted;
	char root[PATH_BYTES];		/* the group that is at the ... */
	char point[PATH_BYTES];		/* ... mount point, our root before */
};

struct cgroup {
	char prefix[PATH_BYTES];
	struct hierarchy v1, v2;
	char path[2 * PATH_BYTES];	/* of the group that is looked at */
	char text[TEXT_BYTES];
};

/* Of the largest pages, and so less than of smaller ones. */
static const uint64_t V1_NO_LIMIT = INT64_MAX & ~UINT64_C(0xffff);

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static bool read_text(struct cgroup *cg, const char *name)
{
	char path[PATH_BYTES + NUMBER_BYTES];

	snprintf(path, sizeof(path), "%s%s", cg->prefix, name);
	return os_read_file(path, cg->text, sizeof(cg->text)) > 0;
}

/* ---- where they are mounted ---- */

/* Blanks and the like are written as three octal digits. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
				       (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

static void set_mounted(struct cgroup *cg, struct hierarchy *h, char *root,
			char *point)
{
	int length;

	unescape(root);
	unescape(point);
	length = snprintf(h->point, sizeof(h->point), "%s%s", cg->prefix,
			  strcmp(point, "/") ? point : "");
	h->mounted = length < (int)sizeof(h->point) &&
		     snprintf(h->root, sizeof(h->root), "%s",
			      strcmp(root, "/") ? root : "") <
			     (int)sizeof(h->root);
}

static bool has_word(const char *list, const char *word)
{
	size_t length = strlen(word);

	while (list && *list) {
		if (!strncmp(list, word, length) &&
		    (list[length] == ',' || !list[length]))
			return true;
		list = strchr(list, ',');
		list += list != NULL;
	}
	return false;
}

/* "id parent device root point options ... - type source options" */
static void read_mount(struct cgroup *cg, char *line)
{
	char *field[FIELDS_MOST], *rest = NULL;
	unsigned n = 0, dash = 0;

	for (char *f = strtok_r(line, " ", &rest); f && n < FIELDS_MOST;
	     f = strtok_r(NULL, " ", &rest)) {
		if (n > 5 && !dash && !strcmp(f, "-"))
			dash = n;
		field[n++] = f;
	}
	if (!dash || n < dash + 4)
		return;
	if (!strcmp(field[dash + 1], "cgroup2"))
		set_mounted(cg, &cg->v2, field[3], field[4]);
	else if (!strcmp(field[dash + 1], "cgroup") &&
		 has_word(field[dash + 3], "memory"))
		set_mounted(cg, &cg->v1, field[3], field[4]);
}

static bool read_mounts(struct cgroup *cg)
{
	char *rest = NULL;

	if (!read_text(cg, "/proc/self/mountinfo"))
		return false;
	for (char *line = strtok_r(cg->text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest))
		read_mount(cg, line);
	return cg->v1.mounted || cg->v2.mounted;
}

int cgroup_open(const char *root, struct cgroup **ret_cgroup)
{
	struct cgroup *cg = os_calloc(1, sizeof(*cg));

	if (!cg)
		return -ENOMEM;
	snprintf(cg->prefix, sizeof(cg->prefix), "%s", root);
	if (!read_mounts(cg)) {
		os_free(cg);
		return -ENOENT;
	}
	*ret_cgroup = cg;
	return 0;
}

void cgroup_close(struct cgroup *cg)
{
	os_free(cg);
}

/* ---- what they allow ---- */

/* "max", what is no number, and what version 1 says instead: the most that a
 * signed number can hold, in whole pages. */
static uint64_t read_limit(struct cgroup *cg, const char *file)
{
	char path[sizeof(cg->path) + NUMBER_BYTES], text[NUMBER_BYTES];
	unsigned long long bytes;
	char *end;

	snprintf(path, sizeof(path), "%s/%s", cg->path, file);
	if (os_read_file(path, text, sizeof(text)) <= 0 || text[0] < '0' ||
	    text[0] > '9')
		return CGROUP_NO_LIMIT;
	bytes = strtoull(text, &end, 10);
	return (*end == '\n' || !*end) && bytes < V1_NO_LIMIT ? bytes :
							       CGROUP_NO_LIMIT;
}

/* The group in cg->path, and those above it up to the mount point. */
static uint64_t lowest_limit(struct cgroup *cg, size_t point_length,
			     const char *const *files)
{
	uint64_t limit = CGROUP_NO_LIMIT;
	char *end;

	for (;;) {
		for (unsigned i = 0; files[i]; i++)
			limit = least(limit, read_limit(cg, files[i]));
		end = strrchr(cg->path, '/');
		if (!end || end < cg->path + point_length)
			return limit;
		*end = '\0';
	}
}

/* A group that is not below what is mounted can't be seen: the mount point is
 * the nearest to it. */
static uint64_t limit_of(struct cgroup *cg, const struct hierarchy *h,
			 const char *group, const char *const *files)
{
	size_t length = strlen(h->root);

	if (!h->mounted)
		return CGROUP_NO_LIMIT;
	if (!strncmp(group, h->root, length) &&
	    (group[length] == '/' || !group[length]))
		group += length;
	else
		group = "";
	if (!strcmp(group, "/") || strstr(group, "/.."))
		group = "";
	snprintf(cg->path, sizeof(cg->path), "%s%s", h->point, group);
	return lowest_limit(cg, strlen(h->point), files);
}

/* "number:controllers:group"; in version 2, "0::group" */
static uint64_t read_group(struct cgroup *cg, char *line)
{
	static const char *const v1[] = { "memory.limit_in_bytes", NULL };
	static const char *const v2[] = { "memory.max", "memory.high", NULL };
	char *controllers = strchr(line, ':');
	char *group = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!group)
		return CGROUP_NO_LIMIT;
	*group++ = '\0';
	if (!controllers[1])
		return limit_of(cg, &cg->v2, group, v2);
	if (has_word(controllers + 1, "memory"))
		return limit_of(cg, &cg->v1, group, v1);
	return CGROUP_NO_LIMIT;
}

uint64_t cgroup_limit(struct cgroup *cg)
{
	uint64_t limit = CGROUP_NO_LIMIT;
	char *rest = NULL;

	if (!read_text(cg, "/proc/self/cgroup"))
		return limit;
	for (char *line = strtok_r(cg->text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest))
		limit = least(limit, read_group(cg, line));
	return limit;
}
