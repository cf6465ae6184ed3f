// SPDX-License-Identifier: GPL-3.0-or-later
//
// The tight loop of a micro workload: prepares every name first, then does one kind of file
// operation as fast as the kernel lets it and prints "OPERATIONS NANOSECONDS".
//
//   client op=stat root=DIR dirs=10 files=100 [prefix=f] [to=r] [passes=1] [warm=0] [clients=1]
//   client op=seqread path=FILE size=BYTES [block=BYTES] [count=N]
//
// Names are root/dNNN/PREFIXNNNNN. `warm` passes are done before the clock starts. With several
// clients the directories are dealt out among as many processes, which start together; the time is
// from the first start to the last end. client_fallback.py does the same where no compiler is.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *op = "", *root = ".", *prefix = "f", *to = "r", *path = "";
static long dirs = 1, files = 1, passes = 1, warm = 0, clients = 1, count = 0;
static long long size = 0, block = 131072;

static void fail(const char *thing)
{
	fprintf(stderr, "%s %s: %s\n", op, thing, strerror(errno));
	_exit(1);
}

static void refuse(const char *thing, const char *reason)
{
	fprintf(stderr, "%s %s: %s\n", op, thing, reason);
	_exit(1);
}

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// xorshift: the same places are read and written in every run.
static uint64_t dice = 88172645463325252ull;
static uint64_t roll(void)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return dice;
}

// What one name needs: the operation itself and, for some, a second name.
typedef void (*act)(const char *name, const char *other);

static void do_stat(const char *name, const char *other)
{
	struct stat st;
	(void)other;
	if (lstat(name, &st) != 0)
		fail(name);
}

static void do_missing(const char *name, const char *other)
{
	struct stat st;
	(void)other;
	if (lstat(name, &st) == 0)
		refuse(name, "exists");
	if (errno != ENOENT)
		fail(name);
}

static void do_open(const char *name, const char *other)
{
	char data[4096];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	(void)other;
	if (fd < 0 || read(fd, data, sizeof data) < 0 || close(fd) != 0)
		fail(name);
}

static void do_create(const char *name, const char *other)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	(void)other;
	if (fd < 0 || close(fd) != 0)
		fail(name);
}

static void do_append(const char *name, const char *other)
{
	int fd = open(name, O_WRONLY | O_APPEND | O_CLOEXEC);
	(void)other;
	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) != 0)
		fail(name);
}

static void do_truncate(const char *name, const char *other)
{
	int fd = open(name, O_WRONLY | O_TRUNC | O_CLOEXEC);
	(void)other;
	if (fd < 0 || close(fd) != 0)
		fail(name);
}

static void do_mkdir(const char *name, const char *other)
{
	(void)other;
	if (mkdir(name, 0755) != 0)
		fail(name);
}

static void do_symlink(const char *name, const char *other)
{
	if (symlink(other, name) != 0)
		fail(name);
}

static void do_chmod(const char *name, const char *other)
{
	(void)other;
	if (chmod(name, 0600) != 0)
		fail(name);
}

static void do_rename(const char *name, const char *other)
{
	if (rename(name, other) != 0)
		fail(name);
}

static void do_unlink(const char *name, const char *other)
{
	(void)other;
	if (unlink(name) != 0)
		fail(name);
}

static const struct { const char *name; act act; } names_ops[] = {
	{"stat", do_stat}, {"missing", do_missing}, {"open", do_open}, {"create", do_create},
	{"append", do_append}, {"truncate", do_truncate}, {"mkdir", do_mkdir},
	{"symlink", do_symlink}, {"chmod", do_chmod}, {"rename", do_rename}, {"unlink", do_unlink},
};

// One directory read to its end; with `with_stat` each entry is looked at too, as find or rm do.
static long list_directory(const char *name, int with_stat)
{
	long seen = 0;
	struct dirent *entry;
	struct stat st;
	DIR *stream = opendir(name);
	if (stream == NULL)
		fail(name);
	while (errno = 0, (entry = readdir(stream)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		seen++;
		if (with_stat &&
		    fstatat(dirfd(stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			fail(entry->d_name);
	}
	if (errno != 0)
		fail(name);
	closedir(stream);
	return seen;
}

struct lap { int64_t start, end; long ops; };

static char **prepare(const char *word, long mine, long *length)
{
	long n = 0, room = (dirs / clients + 1) * files;
	char **names = malloc((size_t)room * sizeof *names);
	for (long d = mine; d < dirs; d += clients)
		for (long f = 0; f < files; f++)
			if (asprintf(&names[n++], "d%03ld/%s%05ld", d, word, f) < 0)
				fail("names");
	*length = n;
	return names;
}

static void names_loop(act one, long mine, int gate, struct lap *lap)
{
	long length;
	char token;
	char **names = prepare(prefix, mine, &length), **others = prepare(to, mine, &length);
	for (long pass = 0; pass < warm; pass++)
		for (long i = 0; i < length; i++)
			one(names[i], others[i]);
	if (gate >= 0 && read(gate, &token, 1) < 0)
		fail("gate");
	lap->start = now();
	for (long pass = 0; pass < passes; pass++)
		for (long i = 0; i < length; i++)
			one(names[i], others[i]);
	lap->end = now();
	lap->ops = passes * length;
}

static void list_loop(int with_stat, long mine, int gate, struct lap *lap)
{
	char name[32], token;
	long seen = 0;
	for (long pass = -warm; pass < passes; pass++) {
		if (pass == 0) {
			if (gate >= 0 && read(gate, &token, 1) < 0)
				fail("gate");
			seen = 0;
			lap->start = now();
		}
		for (long d = mine; d < dirs; d += clients) {
			snprintf(name, sizeof name, "d%03ld", d);
			seen += list_directory(name, with_stat);
		}
	}
	lap->end = now();
	lap->ops = seen;
}

static void tree_loop(long mine, int gate, struct lap *lap)
{
	if (strcmp(op, "list") == 0 || strcmp(op, "walk") == 0) {
		list_loop(op[0] == 'w', mine, gate, lap);
		return;
	}
	for (size_t i = 0; i < sizeof names_ops / sizeof *names_ops; i++)
		if (strcmp(op, names_ops[i].name) == 0) {
			names_loop(names_ops[i].act, mine, gate, lap);
			return;
		}
	refuse("", "no such operation");
}

static void several(struct lap *total)
{
	int gate[2], status, failed = 0;
	struct lap *laps = mmap(NULL, (size_t)clients * sizeof *laps, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (laps == MAP_FAILED || pipe(gate) != 0)
		fail("gate");
	for (long c = 0; c < clients; c++) {
		pid_t child = fork();
		if (child < 0)
			fail("fork");
		if (child == 0) {
			close(gate[1]);
			tree_loop(c, gate[0], &laps[c]);
			_exit(0);
		}
	}
	close(gate[0]);
	close(gate[1]); // end of file for all of them at once: they start
	while (wait(&status) > 0)
		failed |= status;
	if (failed)
		_exit(1);
	*total = laps[0];
	for (long c = 1; c < clients; c++) {
		if (laps[c].start < total->start)
			total->start = laps[c].start;
		if (laps[c].end > total->end)
			total->end = laps[c].end;
		total->ops += laps[c].ops;
	}
}

static void whole(ssize_t done, ssize_t wanted)
{
	if (done < 0)
		fail(path);
	if (done != wanted)
		refuse(path, "short transfer");
}

static void data_loop(struct lap *lap)
{
	int writes = strcmp(op, "seqwrite") == 0 || strcmp(op, "randwrite") == 0 ||
		     strcmp(op, "mmapwrite") == 0 || strcmp(op, "fsync") == 0;
	int maps = strncmp(op, "mmap", 4) == 0;
	volatile unsigned char sink = 0;
	char *data = malloc((size_t)block);
	long long places = block > 0 ? size / block : 0;
	off_t *at = malloc((size_t)(count + 1) * sizeof *at);
	if (places < 1)
		refuse(path, "size is less than block");
	memset(data, 'x', (size_t)block);
	for (long i = 0; i < count; i++)
		at[i] = (off_t)(roll() % (uint64_t)places) * block;
	lap->start = now();
	int fd = open(path, (writes ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0644);
	if (fd < 0)
		fail(path);
	lap->ops = count;
	if (strcmp(op, "seqread") == 0) {
		lap->ops = (long)places;
		for (long long i = 0; i < places; i++)
			whole(read(fd, data, (size_t)block), (ssize_t)block);
	} else if (strcmp(op, "seqwrite") == 0) {
		lap->ops = (long)places;
		for (long long i = 0; i < places; i++)
			whole(write(fd, data, (size_t)block), (ssize_t)block);
	} else if (strcmp(op, "randread") == 0) {
		for (long i = 0; i < count; i++)
			whole(pread(fd, data, (size_t)block, at[i]), (ssize_t)block);
	} else if (strcmp(op, "randwrite") == 0) {
		for (long i = 0; i < count; i++)
			whole(pwrite(fd, data, (size_t)block, at[i]), (ssize_t)block);
	} else if (strcmp(op, "fsync") == 0) {
		for (long i = 0; i < count; i++) {
			whole(pwrite(fd, data, (size_t)block, at[i]), (ssize_t)block);
			if (fsync(fd) != 0)
				fail(path);
		}
	} else if (maps) {
		unsigned char *map = mmap(NULL, (size_t)size, writes ? PROT_READ | PROT_WRITE : PROT_READ,
					  MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			fail(path);
		for (long i = 0; i < count; i++)
			if (writes)
				map[at[i]] = (unsigned char)i;
			else
				sink += map[at[i]];
		if (writes && msync(map, (size_t)size, MS_SYNC) != 0)
			fail(path);
		munmap(map, (size_t)size);
	} else {
		refuse(path, "no such operation");
	}
	if (close(fd) != 0)
		fail(path);
	lap->end = now();
	(void)sink;
}

static void take(const char *word)
{
	static const struct { const char *key; const char **text; } texts[] = {
		{"op=", &op}, {"root=", &root}, {"prefix=", &prefix}, {"to=", &to}, {"path=", &path},
	};
	static const struct { const char *key; long *number; } numbers[] = {
		{"dirs=", &dirs}, {"files=", &files}, {"passes=", &passes}, {"warm=", &warm},
		{"clients=", &clients}, {"count=", &count},
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (strncmp(word, texts[i].key, strlen(texts[i].key)) == 0) {
			*texts[i].text = word + strlen(texts[i].key);
			return;
		}
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (strncmp(word, numbers[i].key, strlen(numbers[i].key)) == 0) {
			*numbers[i].number = atol(word + strlen(numbers[i].key));
			return;
		}
	if (strncmp(word, "size=", 5) == 0)
		size = atoll(word + 5);
	else if (strncmp(word, "block=", 6) == 0)
		block = atoll(word + 6);
	else
		refuse(word, "no such parameter");
}

int main(int argc, char **argv)
{
	struct lap lap = {0, 0, 0};
	for (int i = 1; i < argc; i++)
		take(argv[i]);
	if (path[0] != '\0') {
		data_loop(&lap);
	} else {
		if (chdir(root) != 0)
			fail(root);
		if (clients > 1)
			several(&lap);
		else
			tree_loop(0, -1, &lap);
	}
	printf("%ld %lld\n", lap.ops, (long long)(lap.end - lap.start));
	return 0;
}
