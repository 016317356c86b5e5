# Compiles every .cu file of this folder into a fat binary and embeds all of them, with a table of their names: cuda/image.h.
set(image_directory ${CMAKE_CURRENT_BINARY_DIR}/cuda)
file(MAKE_DIRECTORY ${image_directory})
file(GLOB image_sources CONFIGURE_DEPENDS cuda/*.cu)
if(TRTCOLL_CUDA_ARCHITECTURES STREQUAL "")
  set(image_sources "")
endif()
string(REPLACE ";" " " image_architectures "${TRTCOLL_CUDA_ARCHITECTURES}")
set(image_includes "${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/proto/include")
set(image_files "")
set(image_blocks "")
set(image_rows "")
foreach(source ${image_sources})
  get_filename_component(name ${source} NAME_WE)
  set(file ${image_directory}/${name}.fatbin)
  add_custom_command(OUTPUT ${file}
    COMMAND ${CMAKE_COMMAND} -D NVCC=${TRTCOLL_NVCC} -D SOURCE=${source} -D OUTPUT=${file} -D DEPFILE=${file}.d
      -D ARCHITECTURES=${image_architectures} -D INCLUDES=${image_includes} -D CACHE=${TRTCOLL_CUDA_CACHE}
      -D OPTIONS=${TRTCOLL_CUDA_OPTIONS} -P ${CMAKE_CURRENT_LIST_DIR}/compile.cmake
    DEPENDS ${source} ${CMAKE_CURRENT_LIST_DIR}/compile.cmake
    DEPFILE ${file}.d
    COMMENT "Compiling kernels ${name}.cu for sm_${image_architectures}" VERBATIM)
  list(APPEND image_files ${file})
  string(APPEND image_blocks "IMAGE(${name}, \"${file}\")\n")
  string(APPEND image_rows "    {\"${name}\", tck_image_${name}, tck_image_${name}_end},\n")
endforeach()

file(CONFIGURE OUTPUT ${image_directory}/images.c @ONLY CONTENT [[
/* The fat binaries of the .cu files of kernels/cuda. Generated. */
#include "cuda/image.h"

#define IMAGE(name, file)                                                                                                               \
    extern const unsigned char tck_image_##name[] __attribute__((visibility("hidden")));                                                   \
    extern const unsigned char tck_image_##name##_end[] __attribute__((visibility("hidden")));                                             \
    __asm__(".pushsection .rodata\n.balign 64\n.globl tck_image_" #name "\n.hidden tck_image_" #name "\ntck_image_" #name ":\n.incbin \"" file     \
            "\"\n.globl tck_image_" #name "_end\n.hidden tck_image_" #name "_end\ntck_image_" #name "_end:\n.byte 0\n.popsection\n");

@image_blocks@
const struct tck_cuda_image tck_cuda_images[] = {
@image_rows@    {0},
};
]])
set_source_files_properties(${image_directory}/images.c PROPERTIES OBJECT_DEPENDS "${image_files}")
target_sources(trtcoll-kernels PRIVATE ${image_directory}/images.c)
