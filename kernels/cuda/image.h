/*
 * The kernels of this build: one fat binary for each .cu file of this folder, embedded by images.cmake. Constant, and known without a GPU.
 */
#ifndef TCK_CUDA_IMAGE_H
#define TCK_CUDA_IMAGE_H

struct tck_cuda_image {
    const char *name; /* of the .cu file, without ending; NULL ends the table */
    const unsigned char *data;
    const unsigned char *end;
};

extern const struct tck_cuda_image tck_cuda_images[];

#endif
